"""Operators, a family a file; each file is imported when a recipe names one of its operators."""

from tillage.ops.base import operators

__all__ = ["operators"]

operators.ship(
    {
        "tillage.ops.c4": ("c4_lines", "c4_quality"),
        "tillage.ops.chat": (
            "chat_answers",
            "chat_language",
            "chat_language_match",
            "chat_stats",
            "chat_structure",
        ),
        "tillage.ops.classifiers": ("fasttext_classifier", "hf_classifier"),
        "tillage.ops.code": ("code_quality", "code_stats"),
        "tillage.ops.decontaminate": ("decontaminate",),
        "tillage.ops.dedup": ("exact_dedup", "minhash_dedup", "simhash_dedup", "url_dedup"),
        "tillage.ops.domain_margin": ("domain_margin",),
        "tillage.ops.edit": ("edit",),
        "tillage.ops.embedding": ("similarity", "topics"),
        "tillage.ops.fineweb": ("fineweb_quality",),
        "tillage.ops.fluency": ("fluency",),
        "tillage.ops.gopher": ("gopher_quality", "gopher_repetition"),
        "tillage.ops.language": ("language", "language_filter"),
        "tillage.ops.licence": ("licence",),
        "tillage.ops.perplexity": ("perplexity",),
        "tillage.ops.pieces": ("boilerplate_lines", "line_dedup", "paragraph_dedup"),
        "tillage.ops.pii": ("pii_filter", "pii_mask", "pii_stats"),
        "tillage.ops.prompts": ("chat_action", "chat_diversity", "prompt_dedup"),
        "tillage.ops.refinedweb": ("refinedweb_lines",),
        "tillage.ops.rewrite": ("fix_mojibake", "html_to_text", "truncate", "unicode_normalise"),
        "tillage.ops.sampling": ("quantile", "score_sample", "stratified_sample"),
        "tillage.ops.select": ("domain_quota", "sample", "temperature_sample", "top_k"),
        "tillage.ops.semantic": ("semantic_dedup",),
        "tillage.ops.split": ("split_long",),
        "tillage.ops.stats": ("text_stats",),
        "tillage.ops.substring": ("substring_dedup",),
        "tillage.ops.target": ("target_likeness",),
        "tillage.ops.toxicity": ("profanity", "toxic_words"),
        "tillage.ops.where": ("where",),
    }
)
