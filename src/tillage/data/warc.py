"""WARC and WET files of web crawls as a source: a row for each page, or each text made of one."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pyarrow as pa
from pydantic import model_validator
from resiliparse.parse.encoding import (  # pyright: ignore[reportMissingModuleSource]
    bytes_to_str,
    detect_encoding,
)
from warcio.archiveiterator import ArchiveIterator
from warcio.exceptions import ArchiveLoadFailed

from tillage.data import jsonl
from tillage.data.files import Part
from tillage.data.jsonl import Columns, Fault, take
from tillage.data.remote import open_input
from tillage.data.rows import BadRow, RowBuilder
from tillage.data.sources import Source, sources

_PAGES = ("text/html", "application/xhtml+xml", "text/plain")


@sources.register
class Warc(Source):
    """Web archives (WARC, and WET with extracted text), plain or compressed; a row for each text or page.

    Of responses those are rows that hold HTML or plain text; `text` is the page as it came, decoded: the step
    `html_to_text` extracts what is to be read, so that its doing is in the accounts. What else a record says
    can be asked for by `fields`, `domain_field` and `id_field`: url, host, date, type (of the content),
    language (as WET files name it), warc_id, status (int). `line` is the number of the record in the file.
    """

    suffixes = (".warc", ".warc.gz", ".warc.zst", ".wet", ".wet.gz", ".wet.zst")
    known: ClassVar[frozenset[str]] = frozenset(
        {"text", "url", "host", "date", "type", "language", "warc_id", "status"}
    )

    @model_validator(mode="after")
    def _known_fields(self) -> Warc:
        asked = {self.text_field, self.domain_field, self.id_field, *self.fields} - {None}
        strange = sorted(str(name) for name in asked - self.known)
        if strange or self.text_field != "text":
            raise ValueError(f"records of web archives have the fields {', '.join(sorted(self.known))}")
        if self.chat:
            raise ValueError("web archives hold no chats")
        return self

    def read(self, part: Part, columns: pa.Schema) -> Iterator[pa.RecordBatch]:
        rows, want = RowBuilder(part.name, columns), self.columns()
        number = 0
        with open_input(part.path) as file:
            chunks = _Chunks(jsonl.decompressed(file, part.path))
            try:
                for record in ArchiveIterator(io.BufferedReader(chunks, 1 << 20)):
                    if record.format != "warc":  # the library takes almost anything for an ARC file
                        raise ArchiveLoadFailed(f"a record of format {record.format}")
                    number += 1
                    self._take(record, number, rows, want)
                    if rows.bytes > jsonl.BLOCK:
                        yield rows.flush()
            except (ArchiveLoadFailed, OSError, EOFError, ValueError) as error:
                # What the stream itself lacks says more than what the parser makes of it.
                fault = chunks.fault or Fault("corrupt", f"not a record of a web archive: {error}", False)
                rows.quarantine(number + 1, fault.reason, fault.detail)
            else:
                if chunks.fault is not None:
                    rows.quarantine(number + 1, chunks.fault.reason, chunks.fault.detail)
                elif number == 0:
                    rows.quarantine(1, "corrupt", "the file holds no record of a web archive")
        if len(rows):
            yield rows.flush()

    def _take(self, record: Any, number: int, rows: RowBuilder, want: Columns) -> None:
        try:
            found = _record(record, want.max_bytes)
            if found is not None:
                take(found, rows, number, want)
        except BadRow as bad:
            rows.quarantine(number, bad.reason, bad.detail)


def _record(record: Any, max_bytes: int) -> dict[str, object] | None:
    """The fields of a record that holds text; None for all others."""
    kind, headers = record.rec_type, record.rec_headers
    url = (headers.get_header("WARC-Target-URI") or "").strip("<>")
    status: int | None = None
    if kind == "conversion":
        mime = headers.get_header("Content-Type") or ""
    elif kind == "response" and record.http_headers is not None:
        mime = record.http_headers.get_header("Content-Type") or ""
        code = record.http_headers.get_statuscode()
        status = int(code) if code.isdigit() else None
    else:
        return None
    if mime.split(";")[0].strip().lower() not in _PAGES:
        return None
    raw = record.content_stream().read(max_bytes + 1)
    if len(raw) > max_bytes:
        raise BadRow("too_long", f"the record of {url} has more than the limit of {max_bytes} bytes")
    return {
        "text": _decoded(raw, mime, kind == "conversion"),
        "url": url,
        "host": urlsplit(url).hostname or "",
        "date": headers.get_header("WARC-Date"),
        "type": mime,
        "language": headers.get_header("WARC-Identified-Content-Language"),
        "warc_id": (headers.get_header("WARC-Record-ID") or "").strip("<>"),
        "status": status,
    }


def _decoded(raw: bytes, mime: str, strict: bool) -> str:
    """The text of a record: WET is UTF-8, pages are what they say or what they look like."""
    if strict:
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise BadRow("invalid_utf8", f"byte {error.start + 1} of the record is not UTF-8") from None
    said = re.search(r"charset\s*=\s*[\"']?([\w.:-]+)", mime, re.IGNORECASE)
    return bytes_to_str(raw, said[1] if said else detect_encoding(raw) or "utf-8", errors="replace")


class _Chunks(io.RawIOBase):
    """A stream over decompressed chunks; remembers the fault that ended them."""

    def __init__(self, chunks: Iterator[bytes | Fault]) -> None:
        self.fault: Fault | None = None
        self._chunks, self._held = chunks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._held:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            if isinstance(chunk, Fault):
                self.fault, self._chunks = chunk, iter(())
                return 0
            self._held = memoryview(chunk)
        count = min(len(buffer), len(self._held))
        buffer[:count] = self._held[:count]
        self._held = self._held[count:]
        return count
