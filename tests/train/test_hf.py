"""Hugging Face models in the trainer: tiny ones, built from a configuration."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_parallel import pair
from torch.nn import functional as F
from train_data import batches, documents

from tillage.core.errors import UserError
from tillage.train.evaluate import Target, bits_per_byte
from tillage.train.hf import HfCausal, HfModel, hf_tokenizer
from tillage.train.job import TrainJob
from tillage.train.losses import IGNORE, token_losses
from tillage.train.models import build_model, load_model
from tillage.train.optim import OptimSpec
from tillage.train.tokens import Tokenizer, TokenStore
from tillage.train.trainer import TrainSpec, train

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")


def folder_of(config: Any, tokenizer: Tokenizer, folder: Path, seed: int = 0) -> Path:
    """A folder as `save_pretrained` writes it."""
    torch.manual_seed(seed)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer.bpe, eos_token=tokenizer.eos_text)
    fast.save_pretrained(folder)
    return folder


def llama(vocab: int, **more: Any) -> Any:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return transformers.LlamaConfig(
        vocab_size=vocab, num_key_value_heads=1, max_position_embeddings=64, **shape, **more
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    return folder_of(llama(tokenizer.vocab), tokenizer, tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def target(tokenizer: Tokenizer) -> Target:
    return Target.from_texts("t", [d["text"] for d in documents(9, 5)], tokenizer)


def spec(model: HfModel, **more: Any) -> TrainSpec:
    fields: dict[str, Any] = {
        "model": model,
        "seq_len": 32,
        "batch": 4,
        "tokens": 32 * 4 * 6,
        "dtype": "fp32",
    }
    fields["optim"] = OptimSpec(kind="adamw", lr=3e-3, lr_embedding=3e-3)
    return TrainSpec(**{**fields, **more})


@pytest.mark.parametrize("kind", ["llama", "tied", "gpt2", "scaled"])
def test_losses_are_those_of_the_library(kind: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """With and without logits, also where logits are more than a product (granite divides them)."""
    configs: dict[str, Any] = {
        "llama": llama(tokenizer.vocab),
        "tied": llama(tokenizer.vocab, tie_word_embeddings=True),
        "gpt2": transformers.GPT2Config(
            vocab_size=tokenizer.vocab, n_embd=32, n_layer=2, n_head=2, n_positions=64
        ),
        "scaled": transformers.GraniteConfig(
            vocab_size=tokenizer.vocab, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, logits_scaling=3.0,
        ),
    }  # fmt: skip
    where = folder_of(configs[kind], tokenizer, tmp_path)
    model = HfCausal(HfModel(hf=str(where)), tokenizer.vocab, 16)
    ids = torch.randint(0, tokenizer.vocab, (2, 16), generator=torch.Generator().manual_seed(1))
    goals = ids.roll(-1, 1)
    goals[:, -3:] = IGNORE
    plain = transformers.AutoModelForCausalLM.from_pretrained(where).eval()
    wanted = F.cross_entropy(plain(ids).logits.flatten(0, 1), goals.flatten(), reduction="none").view(2, 16)
    for found in (model(ids, goals), token_losses(model(ids), goals)):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert model._plain == (kind != "scaled")


def test_documents_do_not_see_one_another(folder: Path, tokenizer: Tokenizer) -> None:
    model = HfCausal(HfModel(hf=str(folder)), tokenizer.vocab, 32)
    one, two = (torch.randint(0, 99, (1, n), generator=torch.Generator().manual_seed(n)) for n in (5, 7))
    spans = torch.tensor([[0] * 5 + [1] * 7])
    together = model(torch.cat([one, two], 1), torch.cat([one, two], 1), spans)
    apart = torch.cat([model(one, one), model(two, two)], 1)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)
    unmasked = model(torch.cat([one, two], 1), torch.cat([one, two], 1))
    assert not torch.allclose(unmasked, apart, atol=1e-3)


@pytest.mark.parametrize(
    "how",
    [{}, {"lora": {"rank": 2}}, {"freeze": 1}, {"freeze": ["*.mlp.*"]}, {"weights": "fresh"}],
    ids=["full", "lora", "layers", "patterns", "fresh"],
)
def test_trains_goes_on_and_is_read_again(
    how: dict[str, Any], folder: Path, store: TokenStore, target: Target, tmp_path: Path
) -> None:
    model = HfModel.load({"hf": str(folder), **how}, "model")
    before = dict(build_model(model, store.tokenizer.vocab, 32, 0).named_parameters())
    whole = train(spec(model), store, {"t": target}, workdir=tmp_path / "a")
    after = dict(whole.model.named_parameters())
    moved = {name for name, p in after.items() if not torch.equal(p, before[name])}
    free = {name for name, p in after.items() if p.requires_grad}
    assert moved == free
    if how and "weights" not in how:
        assert len(free) < len(after)
    start = bits_per_byte(build_model(model, store.tokenizer.vocab, 32, 0), target, 32)
    assert whole.bpb["t"] < start
    # Stopped at step 4 and gone on, bit for bit.
    saving = spec(model, checkpoint_every=4)
    train(saving, store, {}, workdir=tmp_path / "b")
    kept = tmp_path / "b" / "checkpoints" / "step-00000004.pt"
    state = torch.load(kept, weights_only=True)["model"]
    assert set(state) == (free if len(free) < len(after) else set(whole.model.state_dict()))
    (tmp_path / "c" / "checkpoints").mkdir(parents=True)
    kept.rename(tmp_path / "c" / "checkpoints" / kept.name)
    again = train(saving, store, {"t": target}, workdir=tmp_path / "c")
    assert again.losses == whole.losses and again.bpb == whole.bpb
    read = load_model(tmp_path / "a" / "model")
    assert bits_per_byte(read, target, 32) == pytest.approx(whole.bpb["t"], rel=1e-6)


def test_recomputing_changes_no_loss(folder: Path, store: TokenStore) -> None:
    for how in ({}, {"lora": {"rank": 2}}):
        model = HfModel.load({"hf": str(folder), **how}, "model")
        losses = [train(spec(model, recompute=again), store, {}).losses for again in (False, True)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_store_of_the_models_tokenizer(folder: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    own = hf_tokenizer(folder)
    assert own.eos == tokenizer.eos and own.vocab == tokenizer.vocab
    other = Tokenizer(own.bpe, eos=tokenizer.bpe.id_to_token(7))
    store = TokenStore.write(tmp_path / "s", batches(documents(9)), other)
    assert store.tokenizer.eos == 7 and TokenStore.open(tmp_path / "s").tokenizer.eos == 7
    assert (store.tokens[store.starts[1:] - 1] == 7).all()
    assert other.fingerprint != own.fingerprint


def test_faults_are_named(folder: Path, tokenizer: Tokenizer, store: TokenStore, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model here"):
        HfCausal(HfModel(hf=str(tmp_path / "none")), 10, 16)
    with pytest.raises(UserError, match="not tokenised for this model"):
        HfCausal(HfModel(hf=str(folder)), tokenizer.vocab + 1, 16)
    with pytest.raises(UserError, match="longer than the model reads"):
        HfCausal(HfModel(hf=str(folder)), tokenizer.vocab, 65)
    with pytest.raises(UserError, match="no parameter has such a name"):
        HfCausal(HfModel(hf=str(folder), freeze=("*.mpl.*",)), tokenizer.vocab, 16)
    with pytest.raises(UserError, match="lora"):
        HfModel.load({"hf": str(folder), "freeze": 1, "lora": {}}, "model")
    with pytest.raises(UserError, match="unknown field 'rnk'"):
        TrainSpec.load({"model": {"hf": str(folder), "lora": {"rnk": 2}}}, "train")


def test_a_checkpoint_of_lora_knows_its_weights(
    folder: Path, tokenizer: Tokenizer, store: TokenStore, tmp_path: Path
) -> None:
    moving = folder_of(llama(tokenizer.vocab), tokenizer, tmp_path / "m")
    model = spec(HfModel.load({"hf": str(moving), "lora": {}}, "model"), checkpoint_every=3)
    train(model, store, {}, workdir=tmp_path / "w")
    folder_of(llama(tokenizer.vocab), tokenizer, moving, seed=1)
    with pytest.raises(UserError, match="another run"):
        train(model, store, {}, workdir=tmp_path / "w")


def test_a_job_names_the_model_from_its_own_folder(
    folder: Path, store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths are relative to the file, and where it is read from changes nothing about the run."""
    shutil.copytree(folder, tmp_path / "model")
    fields = {"model": {"hf": "model", "freeze": 1}, "seq_len": 32, "batch": 2, "tokens": 256}
    fields["checkpoint_every"] = 2
    (tmp_path / "train.yaml").write_text(json.dumps({"store": str(store.folder), "train": fields}))
    monkeypatch.chdir(tmp_path.parent)
    (one,) = TrainJob.from_yaml(Path(tmp_path.name, "train.yaml")).run(None, tmp_path / "w")
    monkeypatch.chdir(tmp_path)
    (two,) = TrainJob.from_yaml(Path("train.yaml")).run(None, tmp_path / "w")  # goes on from the last step
    assert one.losses == two.losses and one.steps == 4


def test_rates_fit_the_model(folder: Path) -> None:
    full = TrainSpec.load({"model": {"hf": str(folder)}}, "train")
    lora = TrainSpec.load({"model": {"hf": str(folder), "lora": {}}}, "train")
    assert (full.optim.kind, full.optim.lr, lora.optim.lr) == ("adamw", 2e-5, 2e-4)
    assert TrainSpec().optim == OptimSpec()
    assert TrainSpec.load(full.model_dump(mode="json"), "train") == full
    assert np.isfinite(full.optim.lr)


def test_lora_sharded_on_two_processes(folder: Path, store: TokenStore, tmp_path: Path) -> None:
    model = HfModel.load({"hf": str(folder), "lora": {"rank": 2}}, "model")
    sharded = spec(model, parallel="fsdp", checkpoint_every=3)
    single = train(sharded, store, {})
    found = pair(store, tmp_path, sharded)
    assert [code for code, _ in found] == [0, 0]
    assert json.loads(found[0][1].splitlines()[-1]) == pytest.approx(single.losses, rel=1e-4)
    state = torch.load(tmp_path / "run" / "checkpoints" / "step-00000006.pt", weights_only=True)
    assert state["model"] and all("lora" in name for name in state["model"])
