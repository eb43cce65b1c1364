"""Which model a run trains: one of ours by its shape, or one of Hugging Face's by its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from tillage.core.errors import UserError
from tillage.train.causal import CausalModel
from tillage.train.hf import HfCausal, HfModel
from tillage.train.model import GPT, ModelSpec


def parse_model(value: Any) -> ModelSpec | HfModel:
    """A model from YAML: the fields of a shape, or those of a folder where there is `hf`."""
    if isinstance(value, ModelSpec | HfModel):
        return value
    if not isinstance(value, Mapping):
        raise UserError(
            "this is no model", where="model", got=repr(value), expected="fields, or {hf: FOLDER}"
        )
    return HfModel.load(value, "model") if "hf" in value else ModelSpec.load(value, "model")


AnyModel = Annotated[ModelSpec | HfModel, BeforeValidator(parse_model)]


def build_model(spec: ModelSpec | HfModel, vocab: int, seq_len: int, seed: int) -> CausalModel:
    """The model on the CPU; `vocab` is that of the store's tokenizer."""
    if isinstance(spec, HfModel):
        return HfCausal(spec, vocab, seq_len, seed)
    return GPT(spec, vocab, seq_len, seed)


def load_model(path: Path) -> CausalModel:
    """The model that a run wrote, ready to evaluate: `model.pt`, or the folder `model` of a Hugging Face
    model."""
    if path.is_dir():
        return HfCausal.load(path)
    return GPT.load(path)
