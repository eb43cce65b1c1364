"""The licence that a source file names in its header, as an SPDX identifier (ISO/IEC 5962:2021)."""

from __future__ import annotations

import re

_SPDX = re.compile(
    r"SPDX-License-Identifier:[ \t]*([A-Za-z0-9.+-]+(?:[ \t]+(?:OR|AND|WITH)[ \t]+[A-Za-z0-9.+-]+)*)"
)
# Comment signs and layout, so that a header reads the same in every language.
_LAYOUT = re.compile(r"[\s#*/;%!|\"'`<>-]+|\bdnl\b|\brem\b")
_LATER = "any later version"

# Identifier -> phrases, one of which says it; the first that is found counts.
_PHRASES: dict[str, tuple[str, ...]] = {
    "Apache-2.0": (
        "apache license, version 2.0",
        "apache license version 2.0",
        "apache.org licenses license 2.0",
    ),
    "MPL-2.0": (
        "mozilla public license, v. 2.0",
        "mozilla public license, version 2.0",
        "mozilla.org mpl 2.0",
    ),
    "EPL-2.0": ("eclipse public license 2.0", "eclipse public license v2.0", "eclipse public license v. 2.0"),
    "BSL-1.0": ("boost software license, version 1.0", "boost software license version 1.0"),
    "Unlicense": ("this is free and unencumbered software released into the public domain",),
    "CC0-1.0": ("cc0 1.0 universal", "creativecommons.org publicdomain zero 1.0"),
    "CC-BY-SA-4.0": ("creativecommons.org licenses by sa 4.0",),
    "CC-BY-4.0": ("creativecommons.org licenses by 4.0",),
    "Zlib": ("altered source versions must be plainly marked as such",),
    "MIT": (
        "permission is hereby granted, free of charge, to any person obtaining a copy of this software",
        "under the mit license",
        "under the terms of the mit license",
    ),
}
_BSD = "redistribution and use in source and binary forms, with or without modification"
_ISC = re.compile(
    "permission to use, copy, modify, (?:and or|and) distribute this software for any purpose "
    "with or without fee"
)
_GNU = re.compile(r"gnu (?:(affero|lesser|library) )?general public license")
_VERSION = re.compile(r"\b(?:version|v)\.? ?([123](?:\.[01])?)\b")
_FAMILIES = {
    "affero": ("AGPL", {"3": "3.0", "3.0": "3.0"}),
    "lesser": ("LGPL", {"2.1": "2.1", "3": "3.0", "3.0": "3.0"}),
    "library": ("LGPL", {"2": "2.0", "2.0": "2.0"}),
    "": ("GPL", {"1": "1.0", "1.0": "1.0", "2": "2.0", "2.0": "2.0", "3": "3.0", "3.0": "3.0"}),
}


def licence(text: str, head: int = 8000) -> str | None:
    """The SPDX identifier (or expression) that the first `head` characters name; None where they name none.

    An `SPDX-License-Identifier` counts before phrases. GNU licences without a version that SPDX has are None,
    and "any later version" makes them `-or-later`.
    """
    text = text[:head]
    if found := _SPDX.search(text):
        return " ".join(found[1].split())
    plain = " ".join(_LAYOUT.sub(" ", text.lower()).split())
    for identifier, phrases in _PHRASES.items():
        if any(phrase in plain for phrase in phrases):
            return identifier
    if _BSD in plain:
        if "all advertising materials mentioning" in plain:
            return "BSD-4-Clause"
        return "BSD-3-Clause" if "to endorse or promote products" in plain else "BSD-2-Clause"
    if _ISC.search(plain):
        return "ISC" if "provided that the above copyright notice" in plain else "0BSD"
    return _gnu(plain)


def _gnu(plain: str) -> str | None:
    if (named := _GNU.search(plain)) is None:
        return None
    family, versions = _FAMILIES[named[1] or ""]
    near = plain[named.end() : named.end() + 200]
    version = versions.get(found[1]) if (found := _VERSION.search(near)) else None
    if version is None:
        return None
    return f"{family}-{version}-{'or-later' if _LATER in near else 'only'}"
