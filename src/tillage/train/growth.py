"""Going on with a grown version of the data: what a saved run says of its store, and what may follow it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tillage.core.errors import UserError
from tillage.train.tokens import TokenStore


def card(store: TokenStore) -> dict[str, Any]:
    """What a saved run keeps of its store, as JSON values."""
    groups = store.groups
    return {
        "fingerprint": store.fingerprint,
        "tokenizer": store.manifest["tokenizer"],
        "documents": dict(zip(groups.names, groups.documents, strict=True)),
        "dataset": store.source.get("dataset"),
        "version": store.source.get("version"),
    }


def check_growth(saved: Mapping[str, Any], store: TokenStore) -> None:
    """`UserError` unless `store` is a grown version of the store that `saved` tells of.

    Grown: the same dataset, if both name one, at a newer version; the same tokenizer and domains; no domain
    with fewer documents than before.
    """
    new = card(store)
    fewer = {k: n for k, n in saved["documents"].items() if new["documents"].get(k, 0) < n}
    wrong: tuple[str, object, object] | None = None
    if new["tokenizer"] != saved["tokenizer"]:
        wrong = "tokenizer", new["tokenizer"], saved["tokenizer"]
    elif new["dataset"] != saved["dataset"]:
        wrong = "dataset", new["dataset"], saved["dataset"]
    elif None not in (new["version"], saved["version"]) and new["version"] <= saved["version"]:
        wrong = "version", new["version"], f"a later one than {saved['version']}"
    elif list(new["documents"]) != list(saved["documents"]):
        wrong = "domains", list(new["documents"]), list(saved["documents"])
    elif fewer:
        wrong = (
            "documents",
            {k: new["documents"][k] for k in fewer},
            {k: saved["documents"][k] for k in fewer},
        )
    if wrong is not None:
        raise UserError(
            f"this store is no grown version of the one before: another {wrong[0]}", where=store.folder,
            got=wrong[1], expected=wrong[2], hint="start a new run with it",
        )  # fmt: skip
