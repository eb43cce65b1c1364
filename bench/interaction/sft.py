"""B4: fine-tuning toward one category of tasks out of a pool of instruction data.

The pool holds instructions of five sources; the target is one of them (`TARGET`), known by a few examples and
measured on others, in bits per byte of the answers. All arms begin with the same weights: a model of
Hugging Face (`--model FOLDER`, at preparation too), or one of ours that is pretrained on the text of b2 once
and kept. Every document is a sample of its own, so that policies choose documents. Of the arms that choose
5 % beforehand all epochs are over these 5 %, as in LESS (Xia et al. 2024, arXiv 2402.04333).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from bench.interaction.loop import Outcome
from torch import Tensor

from tillage.core.errors import UserError
from tillage.data.chat import MESSAGES_TYPE, Message, render, to_messages
from tillage.train.chats import ChatFormat, PlainChat, TemplateChat
from tillage.train.evaluate import Target, bits_per_byte
from tillage.train.hf import HfModel, hf_tokenizer
from tillage.train.losses import IGNORE
from tillage.train.model import ModelSpec
from tillage.train.models import SavedModel, build_model
from tillage.train.optim import OptimSpec
from tillage.train.parallel import pick_device
from tillage.train.policies import Greats, Proportional
from tillage.train.precision import precision
from tillage.train.reference import ReferenceSpec
from tillage.train.signals.ahead import Setting, ahead_scores
from tillage.train.signals.ghost import GhostProbe
from tillage.train.signals.gradients import GradientSpec
from tillage.train.tokens import Samples, Tokenizer, TokenStore
from tillage.train.trainer import TrainSpec, train

if TYPE_CHECKING:
    from bench.interaction.suites import Work

Ints = npt.NDArray[np.int64]
Array = npt.NDArray[np.float64]
TARGET = "codegen"
_NAMES = {"Codegen": "codegen", "Toolformer": "toolformer", "Roleplay": "roleplay"}


TUNING = OptimSpec(kind="adamw", lr=3e-4, lr_embedding=3e-4, weight_decay=0.0)


@dataclass(frozen=True)
class SftScale:
    """How B4 trains.

    Attributes:
        batch: documents in a step. epochs: passes over what an arm trains on. share: of the pool, that the
            arms which choose beforehand train on. keep: of its candidates, that the online arm trains on.
        small: the model on which "less" measures gradients.
        pretrain: tokens of text before. documents: most of each source in the pool.
        search, holdout: documents of each source that are known of the target, and that measure.
    """

    model: ModelSpec
    seq_len: int
    batch: int
    epochs: float
    pretrain: int
    documents: int
    search: int
    holdout: int
    share: float = 0.05
    keep: float = 0.25
    small: ModelSpec = field(default_factory=lambda: ModelSpec(layers=2, width=64, head_width=32))
    sketch: int = 8
    optim: OptimSpec = field(default_factory=lambda: TUNING)
    before: OptimSpec = field(default_factory=OptimSpec)
    before_batch: int = 8


SIZES = {
    "tiny": SftScale(ModelSpec(layers=1, width=32, head_width=32), 384, 4, 1.0, 8_000, 60, 8, 8, share=0.2),
    "cpu": SftScale(ModelSpec(layers=4, width=128, head_width=64), 320, 8, 2.0, 800_000, 300, 32, 64),
    "gpu": SftScale(
        ModelSpec(layers=8, width=512, head_width=64), 512, 32, 2.0, 20_000_000, 3_000, 64, 256,
        before=OptimSpec(lr=0.01, lr_embedding=0.01), before_batch=64,
    ),
}  # fmt: skip

ARMS: dict[str, str] = {
    "none": "no fine-tuning",
    "full": "all of the pool",
    "random": "a random share of it",
    "less": "the share that LESS chooses on a small model (policy `less`)",
    "gradient": "the share whose gradients of the model itself agree most with the target's after a warm-up",
    "oracle": "the share out of the target's own source, at random",
    "quarter": "all of the pool, for as many steps as online",
    "online": "of every batch the quarter that GREATS chooses",
}


def prepare_sft(
    folder: Path, corpora: Path, size: str, tokenizer: Tokenizer, model: str = "", seed: int = 0
) -> dict[str, int]:
    """Write the pool as a store and the targets beside it; says how many documents each source has.

    Args:
        tokenizer: of the text for pretraining. model: folder of the Hugging Face model instead, with
            `:FILE` behind it for a GGUF file in it.
    """
    scale, chat = SIZES[size], PlainChat()
    form: ChatFormat = chat
    if model:
        where, _, gguf = model.partition(":")
        tokenizer, form = hf_tokenizer(where, gguf or None), TemplateChat(where, gguf or None)
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    targets: dict[str, dict[str, Target]] = {"search": {}, "holdout": {}}
    for name, chats in _sources(corpora).items():
        # Whole answers: what does not fit into a sample is left out.
        sizes = [len(ids) for ids in tokenizer.encode([render(c) for c in chats])]
        fitting = [c for c, n in zip(chats, sizes, strict=True) if n < scale.seq_len - 16]
        fitting = [fitting[i] for i in rng.permutation(len(fitting))]
        few, rest = fitting[: scale.search], fitting[scale.search :]
        held, rest = rest[: scale.holdout], rest[scale.holdout : scale.holdout + scale.documents]
        for kind, part in (("search", few), ("holdout", held)):
            targets[kind][name] = Target.from_chats(name, part, tokenizer, form)
        for i, messages in enumerate(rest):
            text = render(messages)
            identity = sha256(f"{name}/{i}/{text}".encode()).hexdigest()[:32]
            rows.append({"id": identity, "text": text, "domain": name, "messages": messages})
    types = {"id": pa.large_string(), "text": pa.large_string(), "domain": pa.large_string()}
    schema = pa.schema([*types.items(), ("messages", MESSAGES_TYPE)])
    batch = pa.RecordBatch.from_pylist(rows, schema=schema)
    store = TokenStore.write(folder / "sft", [batch], tokenizer, chat=form)
    for kind, found in targets.items():
        _save(folder / f"sft-{kind}.npz", found)
    return dict(zip(store.groups.names, store.groups.documents, strict=True))


def _sources(corpora: Path) -> dict[str, list[list[Message]]]:
    """Chats by source, each once."""
    found: dict[str, list[list[Message]]] = {}
    for row in _rows(corpora, "gpteacher"):
        name = _NAMES[str(row["id"]).split("/")[1]]
        messages = to_messages(row)
        if messages and messages[-1]["content"]:
            found.setdefault(name, []).append(messages)
    for row in _rows(corpora, "gsm8k"):
        question, _, answer = str(row["text"]).removeprefix("Question: ").partition("\nAnswer: ")
        found.setdefault("gsm8k", []).append(_turn(question, answer))
    for row in _rows(corpora, "bbh"):
        question, _, answer = str(row["text"]).rpartition("\n")
        found.setdefault("bbh", []).append(_turn(question, answer))
    return {
        name: list({render(c): c for c in chats if c[-1]["content"].strip()}.values())
        for name, chats in found.items()
    }


def _turn(question: str, answer: str) -> list[Message]:
    return [Message(role="user", content=question), Message(role="assistant", content=answer)]


def _rows(corpora: Path, name: str) -> list[dict[str, Any]]:
    path = corpora / f"{name}.jsonl.zst"
    if not path.exists():
        raise UserError("a corpus is missing", where=path, expected="gpteacher, gsm8k and bbh")
    with pa.input_stream(str(path), compression="detect") as stream:
        return [json.loads(line) for line in stream.read().decode().split("\n") if line.strip()]


def _save(path: Path, targets: dict[str, Target]) -> None:
    arrays: dict[str, Any] = {}
    for name, target in targets.items():
        assert target.learned is not None
        arrays.update({f"{name}.tokens": target.tokens, f"{name}.learned": np.packbits(target.learned)})
        arrays.update({f"{name}.bytes": target.bytes, f"{name}.starts": target.starts})
    np.savez_compressed(path, **arrays)


def _targets(path: Path, eos: int) -> dict[str, Target]:
    if not path.exists():
        raise UserError(
            "no prepared data of b4 here", where=path, hint="prepare with gpteacher beside the rest"
        )
    with np.load(path) as saved:
        names = [name.removesuffix(".tokens") for name in saved.files if name.endswith(".tokens")]
        return {
            n: Target(
                n, saved[f"{n}.tokens"], saved[f"{n}.bytes"], saved[f"{n}.starts"], eos,
                np.unpackbits(saved[f"{n}.learned"])[: len(saved[f"{n}.tokens"])].astype(np.bool_),
            )
            for n in names
        }  # fmt: skip


def run(work: Work) -> Outcome:
    """One arm of B4 for one seed."""
    scale = replace(SIZES[work.size], epochs=SIZES[work.size].epochs * work.factor)
    data = Path(work.data)
    pool = TokenStore.open(data / "sft")
    search, holdout = (
        _targets(data / f"sft-{kind}.npz", pool.tokenizer.eos) for kind in ("search", "holdout")
    )
    spec = TrainSpec(
        arm=work.arm, seed=work.seed, model=starting_model(work), seq_len=scale.seq_len,
        batch=scale.batch, optim=scale.optim, packing="document", document_mask=False,
        gradients=GradientSpec(target=TARGET, samples=scale.search // 2), **_machine(work),
    )  # fmt: skip
    count, seconds = max(round(scale.share * len(pool)), 1), 0.0
    policy, store, keep = Proportional(), pool, 1.0
    rng = np.random.default_rng([work.seed, 2])
    if work.arm in ("quarter", "online"):
        keep = scale.keep
    if work.arm == "online":
        policy = Greats(keep=keep, eta=scale.optim.lr)
    elif work.arm == "less":
        small = ReferenceSpec(
            model=scale.small, tokens=2 * count * scale.seq_len, batch=scale.batch, seed=work.seed
        )
        single, device = pool.packed("document"), pick_device(spec.device).type
        scores, seconds = ahead_scores(
            "less", Setting(small, search[TARGET], single, scale.seq_len, work.dtype, device)
        )
        store = pool.only(_best(single.samples(scale.seq_len), scores, count))
    elif work.arm == "gradient":
        chosen, seconds = _gradient(spec, scale, pool, search[TARGET], count)
        store = pool.only(chosen)
    elif work.arm == "random":
        store = pool.only(np.sort(rng.permutation(len(pool))[:count]))
    elif work.arm == "oracle":
        own = np.flatnonzero(pool.domain == pool.groups.names.index(TARGET))
        store = pool.only(np.sort(rng.permutation(own)[:count]))
    if work.arm == "none":
        model = build_model(spec.model, pool.tokenizer.vocab, scale.seq_len, 0)
        steps, ledger, mixture = 0, dict[str, float](), dict.fromkeys(pool.groups.names, 0.0)
    else:
        tokens = round(scale.epochs * keep * len(store)) * scale.seq_len
        result = train(
            spec.model_copy(update={"policy": policy, "tokens": tokens}), store, search, measure=()
        )
        model, steps, ledger = result.model, result.steps, result.ledger
        seconds += result.seconds
        domains = np.asarray(result.trained["domain"].to_pylist())
        mixture = {name: float((domains == name).mean()) for name in pool.groups.names}
    model.to(work.device)

    def forward(ids: Tensor) -> Tensor:
        with precision(work.dtype, work.device):
            return model(ids.to(work.device))

    found = {name: bits_per_byte(forward, target, scale.seq_len, 32) for name, target in holdout.items()}
    spent = {name: value for name, value in ledger.items() if name != "evaluation"}
    return Outcome(steps, steps * scale.batch * scale.seq_len, seconds, spent, found, mixture)


def _machine(work: Work) -> dict[str, Any]:
    device = "cuda" if work.device == "cuda" else "cpu"
    return {"dtype": work.dtype, "device": device, "threads": work.threads, "log_every": 1_000_000}


def starting_model(work: Work) -> HfModel | SavedModel:
    """The weights that all arms and seeds begin with; made once and kept."""
    scale, cache = SIZES[work.size], Path(work.cache)
    if work.model:
        where, _, gguf = work.model.partition(":")
        return HfModel(hf=where, gguf=gguf or None)
    text = TokenStore.open(Path(work.data) / "domains")
    spec = TrainSpec(
        arm="pretrain", model=scale.model, seq_len=scale.seq_len, batch=scale.before_batch,
        tokens=scale.pretrain, optim=scale.before, **_machine(work),
    )  # fmt: skip
    folder = cache / f"b4-start-{spec.fingerprint()}-{text.fingerprint}-{work.device}"
    if not (folder / "result.json").exists():
        train(spec, text, {}, workdir=folder, measure=())
    return SavedModel(saved=str(folder / "model.pt"))


def _gradient(
    spec: TrainSpec, scale: SftScale, pool: TokenStore, target: Target, count: int
) -> tuple[Ints, float]:
    """The documents of the pool whose gradients are most like the target's, and the seconds it took.

    As LESS does on the model itself (arXiv 2402.04333, section 4): a warm-up on a random share; then the
    gradients of all documents and of the target's examples at its weights, projected at random, and the
    cosine of each with the mean of the examples. Other than in the paper gradients are the plain ones, not
    Adam's steps, from one checkpoint, and on the linear layers of the whole model instead of LoRA's.
    """
    picked = np.sort(np.random.default_rng([spec.seed, 1]).permutation(len(pool))[:count])
    warm = train(spec.model_copy(update={"tokens": count * scale.seq_len}), pool.only(picked), {}, measure=())
    began = time.perf_counter()
    device = pick_device(spec.device)
    model, kind = warm.model.to(device), warm.dtype

    def losses(ids: Tensor, goals: Tensor, spans: Tensor | None) -> Tensor:
        with precision(kind, device.type):
            return model(ids, goals, spans)

    gradients = GradientSpec(sketch=scale.sketch, chunk=16 if device.type == "cpu" else 64)
    probe = GhostProbe(model, losses, None, gradients, dots=False, sketch=True)

    def sketch(ids: Ints, goals: Ints) -> Array:
        return probe.measure(*(torch.from_numpy(x).to(device) for x in (ids, goals)), None).sketch

    cut = pool.packed("document").samples(scale.seq_len)
    blocks = [np.arange(low, min(low + 256, len(cut))) for low in range(0, len(cut), 256)]
    mine = np.concatenate([sketch(*cut.pairs(block)) for block in blocks])
    wanted = sketch(*_documents(target, scale.seq_len)).mean(0)
    cosine = (mine @ wanted) / np.maximum(np.linalg.norm(mine, axis=1) * np.linalg.norm(wanted), 1e-30)
    return _best(cut, cosine, count), warm.seconds + time.perf_counter() - began


def _best(cut: Samples, scores: Array, count: int) -> Ints:
    """The documents of the samples with the highest scores; each sample is a document."""
    best = np.argsort(-scores, kind="stable")[:count]
    return np.unique([cut.documents(int(sample))[0] for sample in best]).astype(np.int64)


def _documents(target: Target, seq_len: int) -> tuple[Ints, Ints]:
    """The chats of a target as samples of their own: inputs, and answers as targets."""
    assert target.learned is not None
    ids = np.full((len(target.bytes), seq_len), target.eos, dtype=np.int64)
    goals = np.full_like(ids, IGNORE)
    for row, low in enumerate(target.starts[:-1].tolist()):
        high = min(int(target.starts[row + 1]), low + seq_len + 1)
        tokens = target.tokens[low:high].astype(np.int64)
        ids[row, : high - low - 1] = tokens[:-1]
        goals[row, : high - low - 1] = np.where(target.learned[low:high], tokens, IGNORE)[1:]
    return ids, goals
