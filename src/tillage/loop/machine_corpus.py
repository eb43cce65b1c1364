"""The demo's raw data: the text of the Python packages that this machine already has.

Nobody cleaned it. Licences come in hundreds of near-copies, source code outweighs prose, data files pass for
text, and some files are not UTF-8. Bytes are copied into JSONL as an ad-hoc script would copy them, so what
is broken stays broken and the reader has something to quarantine.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import os
import sysconfig
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from tillage.core.errors import UserError

DOMAINS = ("prose", "docstring", "code", "licence", "markup", "other")
MAX_FILE_BYTES = 400_000
MIN_TEXT_BYTES = 200
FILES_PER_PART = 2_000
LICENCE_STEMS = ("licen", "copying", "notice", "copyright", "third_party", "thirdparty")
SUFFIXES = {
    ".py": "code", ".rst": "prose", ".md": "prose",
    ".html": "markup", ".htm": "markup", ".xml": "markup", ".svg": "markup", ".css": "markup",
    ".json": "other", ".csv": "other", ".po": "other", ".yaml": "other", ".yml": "other", ".toml": "other",
    ".h": "code", ".hpp": "code", ".pyx": "code", ".pxd": "code", ".js": "code", ".c": "code", ".cu": "code",
    ".cuh": "code", ".pyi": "code",
}  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """A file that may enter the corpus; `path` is relative to `root`."""

    root: Path
    path: str
    package: str
    domain: str
    bytes: int


@dataclass
class MachineCorpus:
    """What `collect` wrote. Sizes are bytes of text."""

    raw: Path
    target: Path
    packages: int
    held_out: list[str]
    documents: int
    bytes: int
    by_domain: dict[str, int] = field(default_factory=dict[str, int])
    target_documents: int = 0
    target_bytes: int = 0


def collect(folder: Path, *, seed: int, megabytes: float = 40.0, workers: int = 2) -> MachineCorpus:
    """Write `folder/raw/part-*.jsonl` and `folder/target.jsonl` and say what is in them.

    Raw rows have `text`, `domain`, `package`, `path`. Target rows are the documentation (docstrings and long
    descriptions) of packages held out whole: none of their files is in the raw data. Equal seeds and equal
    installed packages give equal files.

    Raises:
        UserError: fewer than 5 MB of package text were found.
    """
    files = sorted(_candidates(), key=lambda c: (c.package, c.path))
    held_out = _held_out(files, seed)
    chosen = _sample([c for c in files if c.package not in held_out], seed, int(megabytes * 1e6))
    size = sum(c.bytes for c in chosen)
    if size < 5e6:
        raise UserError(
            "too little package text on this machine for the demo",
            got=f"{size / 1e6:.1f} MB",
            expected="5 MB or more",
            hint="run it inside the environment that `make demo` creates",
        )
    corpus = MachineCorpus(
        raw=folder / "raw",
        target=folder / "target.jsonl",
        packages=len({c.package for c in chosen}),
        held_out=sorted(held_out),
        documents=0,
        bytes=0,
    )
    corpus.raw.mkdir(parents=True, exist_ok=True)
    documentation = [c for c in files if c.package in held_out and c.domain in ("code", "prose")]
    parts = [chosen[i : i + FILES_PER_PART] for i in range(0, len(chosen), FILES_PER_PART)]
    # ast.parse holds the interpreter lock: processes, not threads, use the second core.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for number, lines in enumerate(pool.map(_raw_lines, parts)):
            with (corpus.raw / f"part-{number:03d}.jsonl").open("wb") as out:
                for domain, length, line in lines:
                    out.write(line)
                    corpus.documents += 1
                    corpus.bytes += length
                    corpus.by_domain[domain] = corpus.by_domain.get(domain, 0) + length
        with corpus.target.open("wb") as out:
            for lines in pool.map(_target_lines, [documentation[i::workers] for i in range(workers)]):
                for _, length, line in lines:
                    out.write(line)
                    corpus.target_documents += 1
                    corpus.target_bytes += length
    return corpus


def _candidates() -> Iterator[Candidate]:
    """All readable text files of installed packages and the standard library, by package."""
    site = Path(sysconfig.get_paths()["purelib"])
    standard = Path(sysconfig.get_paths()["stdlib"])
    for root, is_site in ((site, True), (standard, False)):
        for folder, folders, names in os.walk(root):
            here = Path(folder)
            folders[:] = sorted(
                f for f in folders if f not in ("__pycache__", "site-packages", "dist-packages")
            )
            for name in sorted(names):
                relative = (here / name).relative_to(root)
                domain = _domain(relative)
                if domain is None:
                    continue
                size = (here / name).stat().st_size
                if MIN_TEXT_BYTES <= size <= MAX_FILE_BYTES:
                    package = _package(relative, is_site)
                    yield Candidate(root, relative.as_posix(), package, domain, size)


def _domain(path: Path) -> str | None:
    name = path.name.lower()
    if any(stem in name for stem in LICENCE_STEMS) or "licenses" in path.parts:
        return None if name.endswith((".py", ".pyi")) else "licence"
    if name == "metadata":
        return "prose"
    if path.suffix.lower() == ".txt":
        return "prose" if name.startswith(("readme", "changelog", "changes", "news", "todo")) else "other"
    return SUFFIXES.get(path.suffix.lower())


def _package(path: Path, is_site: bool) -> str:
    """The distribution's folder; modules of the standard library count as packages of their own."""
    top = path.parts[0].split("-")[0].removesuffix(".py").lower()
    return top if is_site else f"stdlib.{top}"


def _order(seed: int, candidate: Candidate) -> bytes:
    return hashlib.blake2b(f"{seed}\0{candidate.package}\0{candidate.path}".encode(), digest_size=8).digest()


def _sample(files: list[Candidate], seed: int, budget: int) -> list[Candidate]:
    """Up to half of the budget for what is not code (it is rare), and code for the rest, in seeded order."""
    chosen: list[Candidate] = []
    for is_code, share in ((False, 0.5), (True, 1.0)):
        limit = int(budget * share)
        for candidate in sorted(
            (c for c in files if (c.domain == "code") == is_code), key=lambda c: _order(seed, c)
        ):
            if limit <= 0:
                break
            chosen.append(candidate)
            limit -= candidate.bytes
            budget -= candidate.bytes
    return sorted(chosen, key=lambda c: _order(seed, c))


def _held_out(files: list[Candidate], seed: int) -> set[str]:
    """About a seventh of the packages, none so large that the raw data would be lost with it."""
    sizes: dict[str, int] = {}
    for candidate in files:
        if candidate.domain in ("code", "prose"):
            sizes[candidate.package] = sizes.get(candidate.package, 0) + candidate.bytes
    total = sum(sizes.values())
    small = sorted(package for package, size in sizes.items() if size < 0.04 * total)
    return {p for p in small if hashlib.blake2b(f"{seed}\0{p}".encode(), digest_size=1).digest()[0] < 37}


def _raw_lines(part: list[Candidate]) -> list[tuple[str, int, bytes]]:
    rows: list[tuple[str, int, bytes]] = []
    for candidate in part:
        text = (candidate.root / candidate.path).read_bytes()
        if candidate.path.endswith(".py"):
            documentation = docstrings(text, candidate.path)
            if documentation is not None:
                rows.append(_line(candidate, documentation.encode(), "docstring"))
        elif candidate.path.endswith("METADATA"):
            text = long_description(text)
        if len(text) >= MIN_TEXT_BYTES:
            rows.append(_line(candidate, text, candidate.domain))
    return rows


def _target_lines(part: list[Candidate]) -> list[tuple[str, int, bytes]]:
    rows: list[tuple[str, int, bytes]] = []
    for candidate in part:
        text = (candidate.root / candidate.path).read_bytes()
        if candidate.path.endswith(".py"):
            documentation = (docstrings(text, candidate.path) or "").encode()
        elif candidate.path.endswith("METADATA"):
            documentation = long_description(text)
        else:
            continue
        if len(documentation) >= MIN_TEXT_BYTES and _is_utf8(documentation):
            domain = "docstring" if candidate.path.endswith(".py") else "prose"
            rows.append(_line(candidate, documentation, domain))
    return rows


def _line(candidate: Candidate, text: bytes, domain: str) -> tuple[str, int, bytes]:
    """One JSONL line whose text has the file's own bytes, valid UTF-8 or not."""
    start = json.dumps(
        {"domain": domain, "package": candidate.package, "path": candidate.path}, ensure_ascii=False
    ).encode()
    # surrogateescape carries bytes that are not UTF-8 through the JSON encoder unchanged.
    quoted = json.dumps(text.decode("utf-8", "surrogateescape"), ensure_ascii=False)
    body = quoted.encode("utf-8", "surrogateescape")
    return domain, len(text), start[:-1] + b', "text": ' + body + b"}\n"


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def long_description(metadata: bytes) -> bytes:
    """The body of a METADATA file (core metadata 2.1: what follows the first empty line)."""
    _, _, body = metadata.replace(b"\r\n", b"\n").partition(b"\n\n")
    return body.strip()


def docstrings(source: bytes, path: str) -> str | None:
    """The docstrings of a module, each under its qualified name; None if it has too few or does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's source are theirs
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        # Not parseable by this Python: it still enters the corpus as code.
        return None
    parts: list[str] = []
    _walk(tree, path.removesuffix(".py").replace("/", ".").removesuffix(".__init__"), parts)
    text = "\n\n".join(parts)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # a docstring may hold lone surrogates by escape
        return None
    return text if size >= MIN_TEXT_BYTES else None


def _walk(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str, out: list[str]
) -> None:
    documentation = ast.get_docstring(node, clean=False)
    if documentation:
        out.append(f"{name}\n{inspect.cleandoc(documentation)}")
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _walk(child, f"{name}.{child.name}", out)
