"""Raw data named on the command line: files and folders to sources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tillage.core.errors import UserError
from tillage.data.chat import ChatForm
from tillage.data.formats import Source, sources


def sources_of(
    paths: Sequence[Path], text_field: str, domain_field: str | None, chat: ChatForm | None = None
) -> list[Source]:
    """A source for each path by the suffixes of its files; a folder may hold several kinds.

    Raises:
        UserError: a path does not exist, or holds no file of a known kind.
    """
    out: list[Source] = []
    for path in paths:
        # Folders of Hugging Face hold files of kinds that are found without it, but for Arrow.
        kinds = [kind for _, kind in sources if _holds(path, _own(kind.name, kind.suffixes))]
        if not kinds:
            named = ", ".join(suffix for _, kind in sources for suffix in kind.suffixes)
            what = "no data of a known kind" if path.exists() else "the data does not exist"
            raise UserError(what, where=path, expected=f"files named *{named.replace(', ', ', *')}")
        for kind in kinds:
            known = {"text_field": text_field, "domain_field": domain_field, "chat": chat}
            fields = known if kind.name != "text" else {}
            out.append(kind.load({"path": str(path), **fields}, str(path)))
    return out


def _own(name: str, suffixes: tuple[str, ...]) -> tuple[str, ...]:
    return (".arrow",) if name == "hugging_face" else suffixes


def _holds(path: Path, suffixes: tuple[str, ...]) -> bool:
    if path.is_dir():
        return any(file.is_file() and file.name.endswith(suffixes) for file in path.rglob("*"))
    return path.is_file() and path.name.endswith(suffixes)
