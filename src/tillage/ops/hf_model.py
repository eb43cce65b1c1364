"""Sequence classifiers of Hugging Face transformers, from a local folder. Extras `hf` and `train`."""

from __future__ import annotations

import importlib
import json
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tillage.core.errors import UserError

_lock = Lock()


class _Classifier(NamedTuple):
    torch: Any
    tokenizer: Any
    model: Any
    device: str


def hf_labels(folder: Path) -> list[str]:
    """The labels of the model in `folder`, by number; one empty label for a model with a single output.

    Raises:
        UserError: no model there, or an extra is not installed.
    """
    _library("transformers", "hf")
    _library("torch", "train")
    config = folder / "config.json"
    try:
        held = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        hint = "download the model into a folder first" if not folder.is_dir() else None
        expected = "a folder that save_pretrained wrote"
        raise UserError(
            "no model in the folder", where=config, got=error, expected=expected, hint=hint
        ) from error
    names = held.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    labels = [str(names[key]) for key in sorted(names, key=int)]
    return [""] if len(labels) == 1 else labels


def hf_scores(texts: pa.Array, path: str, label: str, max_tokens: int, batch: int) -> pa.Array:
    """The score of `label` for each text, float32: its probability or the one output; null without text."""
    number = hf_labels(Path(path)).index(label)
    held = texts.to_pylist()
    rows = [row for row, text in enumerate(held) if text and text.strip()]
    scores = np.full(len(held), np.nan, np.float32)
    with _lock:  # one model on one device; torch has threads of its own
        classifier = _load(path, (Path(path) / "config.json").stat().st_mtime_ns)
        for at in range(0, len(rows), batch):
            some = rows[at : at + batch]
            scores[some] = _score(classifier, [held[row] for row in some], number, max_tokens)
    return pa.array(scores, mask=np.isnan(scores))


def _score(classifier: _Classifier, texts: list[str], number: int, max_tokens: int) -> Any:
    torch, tokenizer, model, device = classifier
    known = getattr(model.config, "max_position_embeddings", None) or max_tokens
    limit = min(max_tokens, known, tokenizer.model_max_length)
    several = len(texts) > 1
    given = tokenizer(texts, return_tensors="pt", truncation=True, max_length=limit, padding=several)
    with torch.inference_mode():
        out = model(**given.to(device)).logits.float()
    if out.shape[1] > 1:
        alone = model.config.problem_type == "multi_label_classification"
        out = out.sigmoid() if alone else out.softmax(-1)
    return out[:, number].cpu().numpy()


@lru_cache(maxsize=2)
def _load(path: str, modified: int) -> _Classifier:
    del modified  # only there so that a model written anew is read anew
    torch, transformers = _library("torch", "train"), _library("transformers", "hf")
    transformers.utils.logging.disable_progress_bar()  # a run says itself how far it is
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError("the classifier cannot be loaded", where=path, got=error) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return _Classifier(torch, tokenizer, model.to(device).eval(), device)


def _library(name: str, extra: str) -> Any:
    """An optional library, by its name: preparation must work without it, and start without loading it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        hint = "pip install 'tillage[hf,train]'"
        raise UserError(f"a Hugging Face classifier needs {name} (extra {extra})", hint=hint) from error
