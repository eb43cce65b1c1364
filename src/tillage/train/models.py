"""Which model a run trains: one of ours by its shape, or one of Hugging Face's by its folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from tillage.core.errors import UserError
from tillage.core.spec import Spec
from tillage.train.causal import CausalModel
from tillage.train.hf import HfCausal, HfModel
from tillage.train.model import GPT, ModelSpec


class SavedModel(Spec):
    """A model of ours that an earlier run trained, to be trained further."""

    saved: str
    """The file: `model.pt` in that run's folder."""

    def at(self, base: str | Path) -> SavedModel:
        """The same with a relative path taken from `base`."""
        return self.model_copy(update={"saved": str(Path(base, self.saved))})

    def content(self) -> str:
        """16 hex digits of the file."""
        try:
            with open(self.saved, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()[:16]
        except OSError as error:
            raise UserError("cannot read the model", where=self.saved, got=error.strerror) from error


def parse_model(value: Any) -> ModelSpec | HfModel | SavedModel:
    """A model from YAML: the fields of a shape, or where there is `hf` of a folder, or `saved` and a file."""
    if isinstance(value, ModelSpec | HfModel | SavedModel):
        return value
    if not isinstance(value, Mapping):
        raise UserError(
            "this is no model", where="model", got=repr(value), expected="fields, or {hf: FOLDER}"
        )
    kind = HfModel if "hf" in value else SavedModel if "saved" in value else ModelSpec
    return kind.load(value, "model")


AnyModel = Annotated[ModelSpec | HfModel | SavedModel, BeforeValidator(parse_model)]


def build_model(spec: ModelSpec | HfModel | SavedModel, vocab: int, seq_len: int, seed: int) -> CausalModel:
    """The model on the CPU; `vocab` is that of the store's tokenizer."""
    if isinstance(spec, HfModel):
        return HfCausal(spec, vocab, seq_len, seed)
    if isinstance(spec, SavedModel):
        return GPT.load(Path(spec.saved), vocab, seq_len)
    return GPT(spec, vocab, seq_len, seed)


def load_model(path: Path) -> CausalModel:
    """The model that a run wrote, ready to evaluate: `model.pt`, or the folder `model` of a Hugging Face
    model."""
    if path.is_dir():
        return HfCausal.load(path)
    return GPT.load(path)
