"""`tillage tokenize DATASET`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

from tillage.cli.answer import Answer, Writing, dry
from tillage.cli.live import watch
from tillage.core.errors import UserError
from tillage.data.dataset import Dataset
from tillage.data.refs import open_ref
from tillage.data.schema import DOMAIN, ID, TEXT
from tillage.data.upload import uploading
from tillage.train.chats import ChatFormat, PlainChat, TemplateChat
from tillage.train.hf import hf_tokenizer
from tillage.train.packing import MANIFEST
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
    chat: Literal["plain", "template"] | None = None,
    send: str | None = None,
    common: Writing = Writing(),
) -> Answer:
    """Write a token store from a dataset version.

    Args:
        dataset: a name in the workspace or a Delta table's folder, with @VERSION or @TAG for a version.
        version: the version to read, another way to say it; the newest if not given.
        store: the folder to write; below the workspace's stores if not given.
        tokenizer: a tokenizer.json to use, or the folder of a Hugging Face model, for its own; without it one
            is learned from the dataset.
        vocab: tokens of the vocabulary that is learned.
        learn_mb: megabytes of text to learn it from.
        chat: of rows with messages only the answers are learned: plain writes them down as the text column
            has them, template by the chat template of the model's folder given as tokenizer.
        send: a URL s3://bucket/prefix with nothing there, to which the store is copied too.
    """
    data = open_ref(dataset, common.space)
    if version is not None:
        data = Dataset.open(data.path, version)
    folder = store or common.space.stores / f"{data.path.name}-v{data.version}"
    if common.dry_run:
        writes: list[Path | str] = [folder, *([send] if send else [])]
        return dry(f"tokenise {data.count()} rows of {data.path} version {data.version}", writes)
    form: ChatFormat | None = PlainChat() if chat == "plain" else None
    if chat == "template":
        if tokenizer is None or not tokenizer.is_dir():
            raise UserError("a chat template comes with a model", hint="--tokenizer FOLDER of the model")
        form = TemplateChat(tokenizer)
    with watch(common.json) as log, uploading(send) if send else nullcontext() as upload:
        bpe = (
            _tokenizer(tokenizer) if tokenizer else Tokenizer.train(_texts(data, int(learn_mb * 1e6)), vocab)
        )
        source = {
            "dataset": str(data.path),
            "version": data.version,
            "digest": data.lineage(data.version)["digest"],
        }
        made = TokenStore.write(folder, data.batches(), bpe, log, source=source, chat=form)
        if upload is not None:
            upload.put_folder(folder, last=MANIFEST)
    return Answer(
        {
            "store": str(folder),
            "fingerprint": made.fingerprint,
            "documents": len(made),
            "tokens": len(made.tokens),
            "vocab": bpe.vocab,
            "source": source,
            "sent": send,
        },
        [f"store: {folder}", *([f"sent: {send}"] if send else [])],
    )


def _tokenizer(path: Path) -> Tokenizer:
    return hf_tokenizer(path) if path.is_dir() else Tokenizer.load(path)


def _texts(data: Dataset, limit: int) -> Iterator[str]:
    """Texts in the order of the dataset until `limit` bytes."""
    read = 0
    for batch in data.batches([ID, TEXT, DOMAIN]):
        for text in batch.column(TEXT).to_pylist():
            yield text
            read += len(text.encode())
            if read >= limit:
                return
