"""One form for URLs that RFC 3986 calls equivalent."""

from __future__ import annotations

import re

# Scheme, authority, path and query as in RFC 3986, appendix B; a fragment addresses a part of the document
# and not another one.
_PARTS = re.compile(r"(?:([a-z][a-z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)(\?[^#]*)?", re.ASCII | re.I)
_PORTS = {"http": ":80", "https": ":443", "ftp": ":21"}
_ENCODED = re.compile(r"%[0-9a-f]{2}", re.ASCII | re.I)
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def normalise_url(url: str) -> str:
    """The URL after normalisation by syntax and scheme (RFC 3986, 6.2.2 and 6.2.3), without its fragment.

    Scheme and host in lower case, default ports and an empty path's slash alike, unreserved characters not
    percent-encoded, dot segments resolved. Text that is no URL comes out trimmed, without its fragment.
    """
    match = _PARTS.match(url.strip())
    assert match is not None  # each part may be empty
    scheme, authority, path, query = (match[1] or "").lower(), match[2], match[3], match[4] or ""
    path, query = (_ENCODED.sub(_decoded, part) for part in (path, query))
    if authority is None:
        return f"{scheme}:{path}{query}" if scheme else path + query
    user, at, host = authority.rpartition("@")
    host = _ENCODED.sub(_decoded, host).lower().removesuffix(":").removesuffix(_PORTS.get(scheme, " "))
    return f"{scheme}://{user}{at}{host}{_resolved(path) or '/'}{query}"


def _decoded(match: re.Match[str]) -> str:
    character = chr(int(match[0][1:], 16))
    return character if character in _UNRESERVED else match[0].upper()


def _resolved(path: str) -> str:
    """Remove dot segments (RFC 3986, section 5.2.4) of a path that is empty or begins with a slash."""
    if "/." not in path:
        return path
    out: list[str] = []
    segments = path.split("/")[1:]
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        if segment in (".", ".."):
            if segment == ".." and out:
                out.pop()
            if last:
                out.append("")
        else:
            out.append(segment)
    return "".join(f"/{segment}" for segment in out)
