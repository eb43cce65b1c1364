"""Hugging Face causal models in the trainer: all weights, LoRA, or some of them frozen."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import logging
import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from tillage.core.errors import UserError
from tillage.core.spec import Spec
from tillage.train.causal import CausalModel
from tillage.train.losses import linear_token_losses, token_losses
from tillage.train.tokenizer import Tokenizer

EXTRA = 'pip install "tillage[hf]"'
_EDGE = 1 << 20
"""Bytes read at both ends of a file of weights for its fingerprint."""


class Lora(Spec):
    """Low-rank updates of frozen matrices (Hu et al. 2021, arXiv 2106.09685), by the library peft."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32.0, gt=0)
    """The update is scaled by alpha / rank."""
    modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Ends of the names of the layers that get one; all linear layers but the output."""


class HfModel(Spec):
    """A causal model of the library transformers, from a folder on this machine."""

    hf: str
    """The folder: configuration, weights and tokenizer as `save_pretrained` writes them, or a GGUF file's."""
    gguf: str | None = None
    """Name of the GGUF file in the folder to read the model from (needs the package gguf)."""
    weights: Literal["pretrained", "fresh"] = "pretrained"
    """fresh: random weights of this shape, by the run's seed."""
    lora: Lora | None = None
    freeze: int | tuple[str, ...] | None = None
    """What stays as it is: so many of the first layers and the embeddings, or patterns of parameter names
    (`*.mlp.*`)."""

    @model_validator(mode="after")
    def _one_way(self) -> HfModel:
        if self.lora is not None and self.freeze is not None:
            raise UserError(
                "lora freezes all weights of the model by itself", where="model.freeze", got=self.freeze,
                expected="lora or freeze, not both",
            )  # fmt: skip
        return self

    def at(self, base: str | Path) -> HfModel:
        """The same with a relative folder taken from `base`."""
        return self.model_copy(update={"hf": str(Path(base, self.hf))})

    def content(self) -> str:
        """16 hex digits of the files: names, sizes, the configuration, and both ends of the weights."""
        folder = _folder(self.hf)
        digest = hashlib.sha256()
        names = [self.gguf] if self.gguf else sorted(p.name for p in folder.iterdir())
        for name in names:
            path = folder / name
            if path.suffix not in (".json", ".safetensors", ".bin", ".gguf"):
                continue
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                digest.update(f"{name}/{size}/".encode())
                file.seek(0)
                digest.update(file.read(_EDGE))
                file.seek(max(size - _EDGE, 0))
                digest.update(file.read(_EDGE))
        return digest.hexdigest()[:16]


def _folder(name: str) -> Path:
    folder = Path(name)
    if not folder.is_dir():
        raise UserError(
            "there is no model here", where=folder.absolute(), expected="a folder that save_pretrained wrote",
            hint="models are read from this machine only: download it first",
        )  # fmt: skip
    return folder


def hf_tokenizer(folder: str | Path, gguf: str | None = None) -> Tokenizer:
    """The tokenizer of a model's folder, for `TokenStore.write`.

    Raises:
        UserError: there is none, or it has no fast form or no end-of-text token.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise UserError("tokenizers of models need transformers", hint=EXTRA) from error
    where = _folder(str(folder))
    with _quiet():
        try:
            found: Any = AutoTokenizer.from_pretrained(where, **({"gguf_file": gguf} if gguf else {}))
        except (OSError, ValueError, ImportError) as error:
            raise UserError("cannot read the model's tokenizer", where=where, got=str(error)[:300]) from error
    if not found.is_fast or found.eos_token is None:
        raise UserError(
            "this tokenizer does not fit", where=where, got=type(found).__name__,
            expected="a fast tokenizer with an end-of-text token",
        )  # fmt: skip
    return Tokenizer.from_json(found.backend_tokenizer.to_str(), str(where), eos=found.eos_token)


class HfCausal(CausalModel):
    """A model of transformers as the trainer uses it. Dropout is off, so that a run can be repeated.

    Args:
        vocab: tokens of the store's tokenizer, at most those of the model.

    Raises:
        UserError: no model there, the extra is missing, or the model does not fit the store.
    """

    def __init__(self, spec: HfModel, vocab: int, seq_len: int, seed: int = 0) -> None:
        super().__init__()
        self.spec, self.seq_len = spec, seq_len
        causal = _load(spec, seed)
        self.vocab = int(causal.get_output_embeddings().weight.shape[0])
        if vocab > self.vocab:
            raise UserError(
                "the store was not tokenised for this model", where=spec.hf, got=f"{vocab} tokens",
                expected=f"at most {self.vocab}", hint="tillage tokenize --tokenizer FOLDER of the model",
            )  # fmt: skip
        longest = getattr(causal.config, "max_position_embeddings", None)
        if longest is not None and seq_len > longest:
            raise UserError("the samples are longer than the model reads", got=seq_len, expected=longest)
        if spec.freeze is not None:
            _freeze(causal, spec.freeze)
        self.inner: Any = causal if spec.lora is None else _with_lora(causal, spec.lora, seed)
        self._plain = self._head_is_plain()

    @property
    def causal(self) -> Any:
        """The model of transformers, LoRA's layers inside it."""
        return self.inner.get_base_model() if self.spec.lora is not None else self.inner

    def forward(self, ids: Tensor, targets: Tensor | None = None, documents: Tensor | None = None) -> Tensor:
        places: dict[str, Tensor] = {} if documents is None else {"position_ids": positions(documents)}
        causal = self.causal
        if targets is None or not self._plain:
            logits = causal(input_ids=ids, use_cache=False, **places).logits
            return logits if targets is None else token_losses(logits, targets)
        hidden = causal.base_model(input_ids=ids, use_cache=False, **places).last_hidden_state
        losses: Tensor = linear_token_losses(hidden, causal.get_output_embeddings().weight, targets)  # pyright: ignore[reportCallIssue]
        return losses

    def _head_is_plain(self) -> bool:
        """Whether logits are the last hidden states times a matrix, and nothing else (some models scale or
        bound them): asked of the model itself."""
        causal = self.causal
        head = causal.get_output_embeddings()
        if type(head) is not nn.Linear or any(name == "bias" for name, _ in head.named_parameters()):
            return False
        training, ids = causal.training, torch.arange(4)[None] % self.vocab
        causal.eval()
        with torch.no_grad():
            hidden = causal.base_model(input_ids=ids, use_cache=False).last_hidden_state
            logits = causal(input_ids=ids, use_cache=False).logits
        causal.train(training)
        return bool(torch.equal(F.linear(hidden, head.weight), logits))

    def layers(self) -> list[nn.Module]:
        return _layers(self.causal)

    def tables(self) -> list[nn.Parameter]:
        causal = self.causal
        embeddings = [m for m in causal.modules() if isinstance(m, nn.Embedding)]
        return [p for m in (*embeddings, causal.get_output_embeddings()) for p in m.parameters()]

    def recomputes(self) -> None:
        causal = self.causal
        with _quiet():  # its new name is not in all versions that are allowed
            causal.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if not causal.get_input_embeddings().weight.requires_grad:
            causal.enable_input_require_grads()

    def flops_per_token(self) -> float:
        """Two for each weight that multiplies a token in the forward pass, two for the gradients of what it
        multiplies, two for its own gradient where it is trained; attention as in `model.GPT`."""
        tables = {id(p) for p in self.tables()}
        every = [p for p in self.causal.parameters() if p.ndim >= 2 and id(p) not in tables]
        output = self.causal.get_output_embeddings().weight
        every.append(output)
        size = sum(p.numel() for p in every)
        trained = sum(p.numel() for p in every if p.requires_grad)
        config = self.causal.config
        attention = 2 * config.num_hidden_layers * config.hidden_size * self.seq_len
        return 4.0 * size + 2.0 * trained + 3.0 * attention

    def save(self, folder: Path) -> None:
        """As `save_pretrained` does, in `folder/model`: the whole model, or LoRA's adapter alone."""
        with _quiet():
            self.inner.save_pretrained(folder / "model")
        said = {"spec": self.spec.model_dump(mode="json"), "seq_len": self.seq_len, "vocab": self.vocab}
        (folder / "model" / "tillage.json").write_text(json.dumps(said))

    @classmethod
    def load(cls, folder: Path) -> HfCausal:
        """What `save` wrote; LoRA's adapter on the model that it was trained on."""
        said = json.loads((folder / "tillage.json").read_text())
        spec = HfModel.load(said["spec"], str(folder))
        if spec.lora is None:
            spec = HfModel(hf=str(folder))
        model = cls(spec, 1, said["seq_len"])
        if spec.lora is not None:
            from peft import load_peft_weights, set_peft_model_state_dict

            set_peft_model_state_dict(model.inner, load_peft_weights(str(folder), device="cpu"))
        return model.eval()


def positions(documents: Tensor) -> Tensor:
    """Positions that begin anew with each document; by their steps transformers tells documents apart."""
    places = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    first = torch.ones_like(documents, dtype=torch.bool)
    first[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return places - torch.where(first, places, 0).cummax(1).values


def _load(spec: HfModel, seed: int) -> Any:
    try:
        from transformers import AutoConfig, AutoModelForCausalLM
    except ImportError as error:
        raise UserError("Hugging Face models need transformers", where="model.hf", hint=EXTRA) from error
    folder = _folder(spec.hf)
    extra = {"gguf_file": spec.gguf} if spec.gguf else {}
    with _quiet():
        try:
            config: Any = AutoConfig.from_pretrained(folder, **extra)
            for name, value in config.to_dict().items():
                if isinstance(value, float) and ("drop" in name or name.endswith("pdrop")):
                    setattr(config, name, 0.0)
            common: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "sdpa"}
            if spec.weights == "pretrained":
                return AutoModelForCausalLM.from_pretrained(folder, config=config, **extra, **common)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                return AutoModelForCausalLM.from_config(config, **common)
        except (OSError, ValueError, ImportError) as error:
            raise UserError("cannot read the model", where=folder, got=str(error)[:300]) from error


def _with_lora(causal: Any, lora: Lora, seed: int) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise UserError("lora needs the package peft", where="model.lora", hint=EXTRA) from error
    modules = lora.modules if isinstance(lora.modules, str) else list(lora.modules)
    # peft takes numbers of any size for alpha; its annotation says int.
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=modules, task_type="CAUSAL_LM"  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
    with _quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return get_peft_model(causal, config)
        except ValueError as error:
            raise UserError(
                "lora does not fit this model", where="model.lora", got=str(error)[:300]
            ) from error


def _layers(causal: Any) -> list[nn.Module]:
    count = causal.config.num_hidden_layers
    for module in causal.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return list(module)
    raise UserError("this model's layers are not known", got=type(causal).__name__)


def _freeze(causal: Any, what: int | tuple[str, ...]) -> None:
    named: list[tuple[str, nn.Parameter]] = list(causal.named_parameters())
    if isinstance(what, int):
        layers = _layers(causal)
        if not 0 <= what <= len(layers):
            raise UserError(
                "there are not so many layers", where="model.freeze", got=what, expected=len(layers)
            )
        tables = [m for m in causal.modules() if isinstance(m, nn.Embedding)]
        first = {id(p) for module in [*layers[:what], *tables] for p in module.parameters()}
        frozen = [p for _, p in named if id(p) in first]
    else:
        for pattern in what:
            if not any(fnmatch.fnmatchcase(name, pattern) for name, _ in named):
                raise UserError(
                    "no parameter has such a name", where="model.freeze", got=pattern,
                    expected=f"a pattern of names like {named[0][0]}",
                )  # fmt: skip
        frozen = [p for name, p in named if any(fnmatch.fnmatchcase(name, pattern) for pattern in what)]
    if len(frozen) == len(named):
        raise UserError("nothing is left to train", where="model.freeze", got=what)
    for p in frozen:
        p.requires_grad_(False)


@contextmanager
def _quiet() -> Generator[None]:
    """Without the library's progress bars and notes: events are what a run says. What one library calls
    deprecated in another is nothing that a user of ours could change."""
    from transformers.utils import logging as notes

    bars, level = notes.is_progress_bar_enabled(), notes.get_verbosity()
    notes.disable_progress_bar()
    notes.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        notes.set_verbosity(level)
        if bars:
            notes.enable_progress_bar()
