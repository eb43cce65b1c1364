"""Files sent to a folder or a name of an S3-style store, `s3://bucket/prefix`, by Arrow's client.

Where the store is and who asks comes from the environment, as for what is read (`tillage.data.remote`).
A store shows a file when all of it has come, never a part.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from pyarrow import fs

from tillage.core.errors import UserError, WorkFailed
from tillage.data.remote import S3, s3_client

_T = TypeVar("_T")
_REFUSED = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "HTTP Status 403")
_BLOCK = 8 << 20
_SETTINGS = "AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY say where and who"


class Upload:
    """Files on their way below one URL; made by `uploading`."""

    def __init__(self, store: fs.FileSystem, place: str) -> None:
        self._store, self._place = store, place
        self._sent: list[str] = []

    def put(self, file: Path, name: str = "") -> str:
        """Send a local file as `name` below the URL, or as the URL itself; the file's URL.

        Raises:
            UserError: the store refuses it.
            WorkFailed: the store cannot be reached, or fails.
        """
        target = f"{self._place}/{name}" if name else self._place
        self._sent.append(target)
        _asked(lambda: self._copy(file, target), f"{S3}{target}", begun=True)
        return f"{S3}{target}"

    def put_folder(self, folder: Path, last: str) -> None:
        """Send the files of a folder, at the end that named `last`, without which they are nothing."""
        names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
        for name in [*(name for name in names if name != last), last]:
            self.put(folder / name, name)

    def _copy(self, file: Path, target: str) -> None:
        # Not by `fs.copy_files`: in Arrow 25 it does not tell that the end of a file was refused.
        with file.open("rb") as read, self._store.open_output_stream(target, compression=None) as out:
            shutil.copyfileobj(read, out, _BLOCK)
        there, size = self._store.get_file_info(target).size, file.stat().st_size
        if there != size:
            raise OSError(f"{there} bytes arrived of {size}")

    def take_back(self) -> None:
        """Remove what was sent; `WorkFailed` naming the first file that stays."""
        for target in self._sent:
            try:
                if self._store.get_file_info(target).is_file:
                    self._store.delete_file(target)
            except OSError as error:
                raise WorkFailed(
                    "what was sent cannot be removed from the store",
                    where=f"{S3}{target}",
                    got=str(error),
                    hint="remove it by hand",
                ) from error


@contextmanager
def uploading(url: str) -> Generator[Upload]:
    """Sends files to `url`, where nothing may be yet; takes all of them back if the block fails.

    Raises:
        UserError: no store can be written by such a URL, there is no such bucket, the store does not let us
            in, or something is there.
    """
    store, place = _store(url)
    bucket, _, key = place.partition("/")
    if _asked(lambda: store.get_file_info(bucket).type, url) == fs.FileType.NotFound:
        raise UserError("there is no such bucket", where=url, got=bucket, hint=f"make it first; {_SETTINGS}")
    taken = bool(key) and _asked(lambda: store.get_file_info(place).is_file, url)
    if taken or _asked(lambda: _any(store, place), url):
        raise UserError(
            "there is something here already", where=url, hint="name another place or remove what is there"
        )
    upload = Upload(store, place)
    try:
        yield upload
    except BaseException:
        upload.take_back()
        raise


def _any(store: fs.FileSystem, folder: str) -> bool:
    """Whether there is a file below; what was taken back leaves names of folders with nothing in them."""
    found = store.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    return any(info.is_file for info in found) or any(_any(store, info.path) for info in found)


def _store(url: str) -> tuple[fs.FileSystem, str]:
    """The client, and the path that it knows the URL by: the bucket and the key."""
    place = url.removeprefix(S3).rstrip("/")
    if not url.startswith(S3) or not place or "" in place.split("/"):
        raise UserError("cannot write to such a URL", where=url, expected="s3://BUCKET/PREFIX")
    return _asked(s3_client, url), place


def _asked(ask: Callable[[], _T], url: str, begun: bool = False) -> _T:
    """What the store answers; what goes wrong is the user's to put right, or once `begun` the store's."""
    try:
        return ask()
    except (OSError, pa.ArrowInvalid) as error:
        said = str(error)
        if any(word in said for word in _REFUSED):
            raise UserError("the store refuses", where=url, got=said, hint=_SETTINGS) from error
        if begun:
            raise WorkFailed("the store failed", where=url, got=said, hint="send it again") from error
        raise UserError("the store cannot be asked", where=url, got=said, hint=_SETTINGS) from error
