"""As much of an S3 server as we need, over the loopback.

HEAD, GET with ranges, lists of keys, PUT whole or in parts, and DELETE.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase, BytesIO
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

Objects = dict[str, bytes]
OnRequest = Callable[[str, str, dict[str, str]], tuple[int, bytes] | None]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, buckets: dict[str, Objects], user: str | None, on_request: OnRequest) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.buckets, self.user, self.on_request = buckets, user, on_request
        self.requests: list[tuple[str, str]] = []
        self.parts: dict[str, dict[int, bytes]] = {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"", headers: Sequence[tuple[str, str]] = ()) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _asked(self) -> tuple[str, str, dict[str, str], bytes, Objects] | None:
        """Bucket, key, parameters and body of the request, and the objects; None if it is answered."""
        url = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(url.query, keep_blank_values=True).items()}
        _, bucket, key = [*unquote(url.path).split("/", 2), "", ""][:3]
        body = self._body()
        self.server.requests.append((self.command, key))
        if self.server.user is not None and f"Credential={self.server.user}/" not in str(
            self.headers.get("Authorization")
        ):
            self._answer(403, b"<Error><Code>AccessDenied</Code></Error>")
            return None
        answer = self.server.on_request(self.command, key, query)
        if answer is not None:
            self._answer(*answer)
            return None
        objects = self.server.buckets.get(bucket)
        if objects is None:
            self._answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")
            return None
        return bucket, key, query, body, objects

    def _body(self) -> bytes:
        """What was sent, out of the chunks in which it may come, and of those that a client signs."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = _joined(self.rfile)
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return _joined(BytesIO(body)) if "aws-chunked" in self.headers.get("Content-Encoding", "") else body

    def do_PUT(self) -> None:
        asked = self._asked()
        if asked is None:
            return
        _, key, query, body, objects = asked
        if "partNumber" in query:
            self.server.parts.setdefault(query["uploadId"], {})[int(query["partNumber"])] = body
        else:
            objects[key] = body
        self._answer(200, headers=[("ETag", f'"{md5(body).hexdigest()}"')])

    def do_POST(self) -> None:
        asked = self._asked()
        if asked is None:
            return
        bucket, key, query, _, objects = asked
        name = f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key>"
        if "uploads" in query:
            upload = f"upload-{len(self.server.parts)}"
            self.server.parts[upload] = {}
            body = f"{name}<UploadId>{upload}</UploadId>"
            return self._answer(
                200, f"<InitiateMultipartUploadResult>{body}</InitiateMultipartUploadResult>".encode()
            )
        parts = self.server.parts[query["uploadId"]]
        objects[key] = b"".join(parts[number] for number in sorted(parts))
        self._answer(
            200,
            f"<CompleteMultipartUploadResult>{name}<ETag>x</ETag></CompleteMultipartUploadResult>".encode(),
        )

    def do_DELETE(self) -> None:
        asked = self._asked()
        if asked is None:
            return
        _, key, query, _, objects = asked
        if "uploadId" not in query:
            objects.pop(key, None)
        self._answer(204)

    def do_GET(self) -> None:
        asked = self._asked()
        if asked is None:
            return
        bucket, key, query, _, objects = asked
        if not key:
            return self._answer(200, _listing(bucket, objects, query), [("Content-Type", "application/xml")])
        if key not in objects:
            return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        body = objects[key]
        headers = [
            ("ETag", f'"{md5(body).hexdigest()}"'),
            ("Last-Modified", "Wed, 01 Jan 2025 00:00:00 GMT"),
            ("Accept-Ranges", "bytes"),
        ]
        asked = self.headers.get("Range")
        if asked and asked.startswith("bytes="):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start = int(first) if first else max(0, len(body) - int(last))
            stop = min(len(body), int(last) + 1) if first and last else len(body)
            if start >= len(body):
                return self._answer(416)
            headers.append(("Content-Range", f"bytes {start}-{stop - 1}/{len(body)}"))
            return self._answer(206, body[start:stop], headers)
        return self._answer(200, body, headers)

    def do_HEAD(self) -> None:
        self.do_GET()


def _joined(file: BufferedIOBase) -> bytes:
    whole = b""
    while size := int(file.readline().split(b";")[0], 16):
        whole += file.read(size)
        file.readline()
    return whole


def _listing(bucket: str, objects: Objects, query: dict[str, str]) -> bytes:
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    keys: list[str] = []
    folders: set[str] = set()
    for key in sorted(k for k in objects if k.startswith(prefix)):
        rest = key[len(prefix) :]
        if delimiter and delimiter in rest:
            folders.add(prefix + rest.split(delimiter)[0] + delimiter)
        else:
            keys.append(key)
    contents = "".join(
        f"<Contents><Key>{escape(key)}</Key><Size>{len(objects[key])}</Size>"
        f'<ETag>"{md5(objects[key]).hexdigest()}"</ETag>'
        "<LastModified>2025-01-01T00:00:00.000Z</LastModified><StorageClass>STANDARD</StorageClass></Contents>"
        for key in keys
    )
    common = "".join(
        f"<CommonPrefixes><Prefix>{escape(p)}</Prefix></CommonPrefixes>" for p in sorted(folders)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><Delimiter>{escape(delimiter)}</Delimiter>"
        f"<KeyCount>{len(keys)}</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>"
        f"{contents}{common}</ListBucketResult>"
    ).encode()


@contextmanager
def serving(
    buckets: dict[str, Objects],
    user: str | None = None,
    on_request: OnRequest = lambda method, key, query: None,
) -> Generator[tuple[str, list[tuple[str, str]]]]:
    """Serves {bucket: {key: bytes}}; yields the endpoint's URL and the list of requests, which grows.

    With `user` only requests that are signed with this access key are let in. `on_request` sees each request
    first and may answer it: status, body.
    """
    server = _Server(buckets, user, on_request)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
