"""Classifiers as a user would bring them, built small: a fastText file and a Hugging Face folder."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest


def write_fasttext(path: Path, words: dict[str, float], kind: int = 3) -> Path:
    """A fastText model of two labels, high and low; the logit of high is the mean of the words' numbers.

    Args:
        kind: 3 for a supervised model, 1 and 2 for word vectors.
    """
    entries = [(word, 0) for word in words] + [("__label__high", 1), ("__label__low", 1)]
    head = struct.pack("<2i12id", 793712314, 12, 2, 5, 5, 1, 5, 1, 3, kind, 0, 0, 0, 100, 1e-4)
    head += struct.pack("<3i2q", len(entries), len(words), 2, 100, -1)
    for word, label in entries:
        head += word.encode() + b"\0" + struct.pack("<qb", 10, label)
    vectors = np.array([[value, 0.0] for value in words.values()], np.float32)
    out = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    for matrix in (vectors, out):
        head += struct.pack("<b2q", 0, *matrix.shape) + matrix.tobytes()
    path.write_bytes(head)
    return path


def write_hf(folder: Path, labels: tuple[str, ...] = ("bad", "good"), **config: object) -> Path:
    """A small random BERT over letters, as `save_pretrained` writes it."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder.mkdir(exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"))
    torch.manual_seed(0)
    shape = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        initializer_range=0.5,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        **config,
    )
    transformers.BertForSequenceClassification(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def model_for(name: str, folder: Path) -> Path:
    """The model that an operator's example is tried with, made once a folder."""
    if name == "fasttext_classifier":
        path = folder / "quality.bin"
        return path if path.exists() else write_fasttext(path, {"wheat": 3.0, "spam": -3.0, "</s>": 0.0})
    path = folder / "classifier"
    return path if path.exists() else write_hf(path)
