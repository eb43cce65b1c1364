"""Inputs behind URLs such as `s3://bucket/key`: listed and read by Daft, which knows the schemes.

Where the store is and who asks comes from the environment, as for other tools: AWS_ENDPOINT_URL, AWS_REGION,
AWS_ACCESS_KEY_ID and so on. A URL's file has no time of change here: its version is its size and its digest.
"""

from __future__ import annotations

import glob
import re
from pathlib import PurePosixPath
from typing import BinaryIO, cast

import daft
from daft.exceptions import DaftCoreException

from tillage.core.errors import UserError

_URL = re.compile(r"[a-z][a-z0-9+.-]+://")


def is_url(path: str) -> bool:
    """Whether `path` names a file by a URL, not on this machine's file system."""
    return _URL.match(path) is not None


def open_input(path: str) -> BinaryIO:
    """A local file or that of a URL, for reading bytes from any place, unbuffered.

    Raises:
        OSError: it is not there or cannot be read.
    """
    if not is_url(path):
        return open(path, "rb", buffering=0)
    try:
        return cast("BinaryIO", daft.open_file(path, "rb", buffering=0))
    except DaftCoreException as error:
        raise OSError(f"{path}: {error}") from error


def size(url: str) -> int:
    """Bytes of the file.

    Raises:
        OSError: it is not there or cannot be read.
    """
    try:
        return daft.File(url).size()
    except DaftCoreException as error:
        raise OSError(f"{url}: {error}") from error


def find(pattern: str, suffixes: tuple[str, ...]) -> tuple[str, list[str]]:
    """The root and the files of a glob, a folder (searched through) or a file; no files if there are none."""
    scheme, _, rest = pattern.partition("://")
    if glob.has_magic(rest):
        parts = rest.split("/")
        magic = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        return f"{scheme}://{'/'.join(parts[:magic])}", _list(pattern)
    if rest.endswith(suffixes):
        return f"{scheme}://{PurePosixPath(rest).parent}", _list(pattern)
    root = pattern.rstrip("/")
    return root, [url for url in _list(f"{root}/**") if url.endswith(suffixes)]


def _list(pattern: str) -> list[str]:
    try:
        return daft.from_glob_path(pattern).to_pydict()["path"]
    except DaftCoreException as error:
        if "at least 1 MicroPartition" in str(error):  # what Daft 0.7.26 says where nothing matches
            return []
        raise UserError("cannot list input files", where=pattern, got=str(error)) from error
