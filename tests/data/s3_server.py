"""As much of an S3 server as reading needs: HEAD, GET with ranges, and lists of keys, over the loopback."""

import threading
from contextlib import contextmanager
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def _answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self):
        url = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(url.query, keep_blank_values=True).items()}
        _, bucket, key = [*unquote(url.path).split("/", 2), "", ""][:3]
        self.server.requests.append((self.command, key))
        objects = self.server.buckets.get(bucket)
        if objects is None:
            return self._answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")
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

    def do_HEAD(self):
        url = urlsplit(self.path)
        _, bucket, key = [*unquote(url.path).split("/", 2), "", ""][:3]
        body = self.server.buckets.get(bucket, {}).get(key)
        self.server.requests.append((self.command, key))
        self.send_response(200 if body is not None else 404)
        if body is not None:
            self.send_header("ETag", f'"{md5(body).hexdigest()}"')
            self.send_header("Last-Modified", "Wed, 01 Jan 2025 00:00:00 GMT")
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()


def _listing(bucket, objects, query):
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    keys, folders = [], set()
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
def serving(buckets):
    """Serves {bucket: {key: bytes}}; yields the endpoint's URL and the list of requests, which grows."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.buckets, server.requests, server.daemon_threads = buckets, [], True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
