"""Byte-level BPE: text to tokens and back, without loss."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as Bpe
from tokenizers import decoders, models, pre_tokenizers, trainers

from tillage.core.errors import UserError
from tillage.core.workspace import write_atomic

EOS = "<|endoftext|>"

Ints = npt.NDArray[np.int64]


class Tokenizer:
    """Byte-level BPE (Sennrich et al. 2016, arXiv 1508.07909; bytes as in GPT-2). Any text can be encoded.

    The text of the end-of-text token inside a document is encoded as ordinary bytes.

    Args:
        eos: the end-of-text token of this tokenizer.
    """

    def __init__(self, bpe: Bpe, eos: str = EOS) -> None:
        self.bpe = bpe
        self.bpe.encode_special_tokens = True
        self.json = bpe.to_str()
        self.eos_text = eos
        said = self.json if eos == EOS else self.json + eos
        self.fingerprint = hashlib.sha256(said.encode()).hexdigest()[:16]
        self.vocab: int = bpe.get_vocab_size()
        end = bpe.token_to_id(eos)
        if end is None:
            raise UserError("the tokenizer has no end-of-text token", expected=eos)
        self.eos: int = end

    @classmethod
    def train(cls, texts: Iterable[str], vocab: int = 2048) -> Tokenizer:
        """Learn `vocab` tokens (at least 257: all bytes and end-of-text) from `texts`."""
        if vocab < 257:
            raise UserError(
                "the vocabulary is too small", got=vocab, expected="257 or more: all bytes and one"
            )
        bpe = Bpe(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab,
            special_tokens=[EOS],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        bpe.train_from_iterator(texts, trainer)
        return cls(bpe)

    @classmethod
    def load(cls, path: Path, eos: str = EOS) -> Tokenizer:
        """Read the JSON file that `save` wrote (the format of Hugging Face `tokenizers`)."""
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise UserError("cannot read the tokenizer", where=path, got=error.strerror) from error
        return cls.from_json(text, str(path), eos)

    @classmethod
    def from_json(cls, text: str, where: str = "tokenizer", eos: str = EOS) -> Tokenizer:
        try:
            bpe = Bpe.from_str(text)
        except Exception as error:  # tokenizers raises bare Exception for every fault
            raise UserError("this is no tokenizer", where=where, got=str(error)) from error
        return cls(bpe, eos)

    def save(self, path: Path) -> None:
        write_atomic(path, self.json)

    @cached_property
    def token_bytes(self) -> Ints:
        """Bytes of text that each token stands for, `int64[vocab]`; 0 for end-of-text."""
        sizes = np.zeros(self.vocab, dtype=np.int64)
        for token, index in self.bpe.get_vocab().items():
            # Byte-level BPE writes each byte as one character.
            sizes[index] = 0 if token == self.eos_text else len(token)
        return sizes

    def encode(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        """Token ids of each text, without end-of-text. Uses all cores that `RAYON_NUM_THREADS` allows."""
        encoded = self.bpe.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.asarray(e.ids, dtype=np.uint32) for e in encoded]

    def decode(self, ids: Iterable[int]) -> str:
        return self.bpe.decode([int(i) for i in ids], skip_special_tokens=False)

    def __reduce__(self) -> tuple[object, ...]:
        return (Tokenizer.from_json, (self.json, "tokenizer", self.eos_text))
