"""`tillage tokenize DATASET`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tillage.cli.answer import Answer, Writing, dry
from tillage.cli.live import watch
from tillage.core.errors import UserError, nearest
from tillage.core.workspace import Workspace
from tillage.data.dataset import Dataset
from tillage.data.schema import DOMAIN, ID, TEXT
from tillage.train.tokens import Tokenizer, TokenStore


def tokenize(
    dataset: str,
    /,
    *,
    version: int | None = None,
    store: Path | None = None,
    tokenizer: Path | None = None,
    vocab: int = 2048,
    learn_mb: float = 20.0,
    common: Writing = Writing(),
) -> Answer:
    """Write a token store from a dataset version.

    Args:
        dataset: a name in the workspace, or a Delta table's folder.
        version: the version to read; the newest if not given.
        store: the folder to write; below the workspace's stores if not given.
        tokenizer: a tokenizer.json to use; without it one is learned from the dataset.
        vocab: tokens of the vocabulary that is learned.
        learn_mb: megabytes of text to learn it from.
    """
    data = Dataset.open(dataset_path(dataset, common.space), version)
    folder = store or common.space.stores / f"{data.path.name}-v{data.version}"
    if common.dry_run:
        return dry(f"tokenise {data.count()} rows of {data.path} version {data.version}", [folder])
    with watch(common.json) as log:
        bpe = (
            Tokenizer.load(tokenizer)
            if tokenizer
            else Tokenizer.train(_texts(data, int(learn_mb * 1e6)), vocab)
        )
        source = {
            "dataset": str(data.path),
            "version": data.version,
            "digest": data.lineage(data.version)["digest"],
        }
        made = TokenStore.write(folder, data.batches(), bpe, log, source=source)
    return Answer(
        {
            "store": str(folder),
            "fingerprint": made.fingerprint,
            "documents": len(made),
            "tokens": len(made.tokens),
            "vocab": bpe.vocab,
            "source": source,
        },
        [f"store: {folder}"],
    )


def dataset_path(name: str, workspace: Workspace) -> Path:
    """A dataset of the workspace by its name, or any folder by its path."""
    if (workspace.datasets / name).is_dir():
        return workspace.datasets / name
    if Path(name).is_dir():
        return Path(name)
    known = [path.name for path in workspace.datasets.glob("*") if path.is_dir()]
    hint = nearest(name, known) if known else "`tillage run` makes one"
    raise UserError(f"no dataset {name!r}", where=workspace.datasets, hint=hint)


def _texts(data: Dataset, limit: int) -> Iterator[str]:
    """Texts in the order of the dataset until `limit` bytes."""
    read = 0
    for batch in data.batches([ID, TEXT, DOMAIN]):
        for text in batch.column(TEXT).to_pylist():
            yield text
            read += len(text.encode())
            if read >= limit:
                return
