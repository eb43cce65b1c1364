"""`tillage train train.yaml`: a training spec, the store and the target files in one document."""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tillage.core.errors import UserError
from tillage.core.events import EventLog
from tillage.core.spec import Spec
from tillage.data import schema
from tillage.train.branches import train_branches
from tillage.train.evaluate import Target
from tillage.train.model import ModelSpec
from tillage.train.tokens import Tokenizer, TokenStore
from tillage.train.trainer import TrainResult, TrainSpec, train


class TrainJob(Spec):
    """What `train.yaml` holds. Paths are relative to the folder of the file.

    store: folder of the token store. targets: name -> file or pattern (.parquet or .jsonl, also .gz and .zst,
    with a `text` field; anything else is read as one text a file). train: the fields of `TrainSpec`;
    its policy is `auto` where none is named, which aims at the target `reference.target`, if it is there.
    branches: smaller budgets in tokens, each reached by a decay of its own from this run's plateau.
    """

    store: str
    targets: dict[str, str] = {}
    train: TrainSpec = TrainSpec()
    branches: tuple[int, ...] = ()
    base: str = "."

    @classmethod
    def from_yaml(cls, path: str | Path) -> TrainJob:
        """Read and validate; `UserError` with file, field and nearest name otherwise."""
        path = Path(path)
        try:
            value: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError("cannot read the training file", where=path, got=error.strerror) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError("this is no YAML", where=path, got=str(error)) from error
        if not isinstance(value, dict):
            raise UserError("the training file holds no fields", where=path, expected="store, targets, train")
        fields: dict[str, Any] = {"base": str(path.parent), **value}
        settings = fields.get("train", {})
        if isinstance(settings, dict):
            try:
                fields["train"] = TrainSpec.load({"policy": "auto", **settings}, f"{path}: train")
            except UserError as error:
                if str(path) not in str(error.where):  # the parser of policies does not know the file
                    error.where = f"{path}: train.{error.where or 'policy'}"
                raise
        return cls.load(fields, str(path))

    def to_yaml(self) -> str:
        """The lossless YAML form; `from_yaml` reads it back."""
        return yaml.safe_dump(
            self.model_dump(mode="json", exclude={"base"}), sort_keys=False, allow_unicode=True
        )

    def open_store(self) -> TokenStore:
        return TokenStore.open(Path(self.base, self.store))

    def read_targets(self, tokenizer: Tokenizer) -> dict[str, Target]:
        return {
            name: Target.from_texts(name, read_texts(str(Path(self.base, pattern))), tokenizer)
            for name, pattern in self.targets.items()
        }

    def run(self, log: EventLog | None = None, workdir: Path | None = None) -> list[TrainResult]:
        """Open everything and train; the result of the run, then those of its branches by falling budget.

        Raises:
            UserError: see `train`; branches without a work folder.
        """
        store, spec = self.open_store(), self.train
        if not isinstance(spec.model, ModelSpec):
            spec = spec.model_copy(update={"model": spec.model.at(self.base)})
        targets = self.read_targets(store.tokenizer)
        if not self.branches:
            return [train(spec, store, targets, log, workdir)]
        if workdir is None:
            raise UserError("branches need a work folder for their checkpoints", where="branches")
        return train_branches(spec, self.branches, store, targets, log, workdir)


def read_texts(pattern: str) -> list[str]:
    """Texts of all files that match, in order of file name."""
    files = sorted(glob.glob(pattern, recursive=True))
    if not files:
        raise UserError("no file matches", where=pattern)
    texts: list[str] = []
    for name in files:
        try:
            texts += _texts(name)
        except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
            raise UserError(
                "cannot read texts", where=name, got=f"{type(error).__name__}: {error}"
            ) from error
    return texts


def _texts(name: str) -> list[str]:
    if name.endswith(".parquet"):
        column = pq.read_table(name, columns=[schema.TEXT])[schema.TEXT]
        return [text for text in column.to_pylist() if text]
    with pa.input_stream(name, compression="detect") as stream:
        content = stream.read().decode("utf-8")
    if ".jsonl" in Path(name).suffixes:
        return [str(json.loads(line)[schema.TEXT]) for line in content.splitlines() if line.strip()]
    return [content]
