"""Inputs behind URLs such as `s3://bucket/key`: listed and read by Daft, which knows the schemes.

Where the store is and who asks comes from the environment, as for other tools: AWS_ENDPOINT_URL, AWS_REGION,
AWS_ACCESS_KEY_ID and so on. Of `s3://` URLs Arrow's client tells which version is there, which Daft does not.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from contextlib import suppress
from functools import lru_cache
from pathlib import PurePosixPath
from typing import BinaryIO, cast

import daft
import pyarrow as pa
from daft.exceptions import DaftCoreException
from pyarrow import fs

from tillage.core.errors import UserError

S3 = "s3://"
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


def size_and_stamp(url: str) -> tuple[int, int]:
    """Bytes of the file, and a number made of the ETag that its store gives to what was written last.

    The number is 0 where none is known: other schemes than `s3`, and stores that only Daft gets into.

    Raises:
        OSError: it is not there or cannot be read.
    """
    if url.startswith(S3):
        # What goes wrong here and does there is not the file's fault; what goes wrong in both is told below.
        with suppress(OSError, pa.ArrowInvalid), s3_client().open_input_file(url.removeprefix(S3)) as file:
            tag: bytes | None = file.metadata().get("ETag")
            return file.size(), _number(tag) if tag else 0
    try:
        return daft.File(url).size(), 0
    except DaftCoreException as error:
        raise OSError(f"{url}: {error}") from error


def _number(tag: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(tag, digest_size=7).digest(), "big") + 1


def s3_client() -> fs.S3FileSystem:
    """Arrow's client of the store that the environment names.

    Raises:
        OSError: the environment names no store that there could be.
    """
    # Arrow 25 does not look for it by itself.
    return _client(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"))


@lru_cache(maxsize=1)
def _client(endpoint: str | None) -> fs.S3FileSystem:
    return fs.S3FileSystem(endpoint_override=endpoint)


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
