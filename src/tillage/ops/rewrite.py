"""Maps: HTML to text, Unicode normalisation and repair, truncation."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import pyarrow as pa
from daft import Expression
from pydantic import Field
from resiliparse.extract.html2text import extract_plain_text  # pyright: ignore[reportMissingModuleSource]

from tillage.kernels.mojibake import fix_mojibake
from tillage.kernels.rewrite import HTML_PAGE, Boundary, Form, normalise, truncate
from tillage.kernels.text_stats import text_stats
from tillage.ops.base import Map, operator
from tillage.ops.udf import measure

_HTML = re.compile(
    r"<!doctype html|<html[\s>]|</(?:html|body|div|p|table|ul|ol|dl|section|article|h[1-6])\s*>",
    re.IGNORECASE,
)


@operator
class HtmlToText(Map):
    """Turn HTML into plain text, leaving navigation, scripts and styles out; other texts stay as they are.

    HTML is what begins with a document type or an <html> tag, or has one of these or the end tag of a block
    and a large enough share of tags: code and prose that mention a tag are left alone.
    """

    version = 2
    source = "Bevendorff et al. 2018 (Resiliparse), doi 10.1007/978-3-319-76941-7_83"

    min_tags: int = Field(default=3, ge=0, description="a text with fewer tags is not HTML")
    min_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="a text with a smaller share of tags and no HTML start is not HTML",
    )
    main_content: bool = Field(default=True, description="only the main content of the page")
    links: bool = Field(default=False, description="keep the addresses of links")

    def rewrite(self) -> Expression:
        extract = partial(
            _extract,
            min_tags=self.min_tags,
            min_share=self.min_share,
            main_content=self.main_content,
            links=self.links,
        )
        return measure(extract, pa.large_string())


@operator
class UnicodeNormalise(Map):
    """Bring text to one Unicode form, with \\n for newlines and no control or zero-width characters."""

    source = "Unicode Standard Annex 15"

    form: Form = Field(
        default="NFC", description="normalisation form; NFKC also folds ligatures and full width"
    )
    invisible: bool = Field(
        default=True, description="remove controls and characters of no width, except joiners"
    )

    def rewrite(self) -> Expression:
        return measure(partial(_normalise, form=self.form, invisible=self.invisible), pa.large_string())


@operator
class FixMojibake(Map):
    """Repair UTF-8 that was read as Latin-1 or Windows-1252, such as "cafÃ©" for "café"."""

    source = "Speer 2019 (ftfy), doi 10.5281/zenodo.2591652: its idea, by rules of our own"

    def rewrite(self) -> Expression:
        return measure(partial(_each, rewrite=fix_mojibake), pa.large_string())


@operator
class Truncate(Map):
    """Keep the beginning of long texts, cut at the end of a line, a word or a character."""

    source = "Unicode Standard Annex 29 (where a character may be cut, roughly)"

    max_chars: int = Field(default=100_000, ge=1, description="most characters (code points) of a text")
    at: Boundary = Field(
        default="word", description="where to cut; the next finer where there is none before the limit"
    )

    def rewrite(self) -> Expression:
        cut = partial(truncate, max_chars=self.max_chars, at=self.at)
        return measure(partial(_each, rewrite=cut), pa.large_string())


def _each(texts: pa.Array, rewrite: Callable[[str], str]) -> pa.Array:
    return pa.array([None if t is None else rewrite(t) for t in texts.to_pylist()], pa.large_string())


def _extract(texts: pa.Array, min_tags: int, min_share: float, main_content: bool, links: bool) -> pa.Array:
    stats = text_stats(texts)
    out: list[str | None] = []
    for text, tags, share in zip(
        texts.to_pylist(), stats["html_tags"].to_pylist(), stats["html_share"].to_pylist(), strict=True
    ):
        if text is None or tags < min_tags or not _is_html(text, share >= min_share):
            out.append(text)
        else:
            out.append(extract_plain_text(text, main_content=main_content, links=links, alt_texts=False))
    return pa.array(out, pa.large_string())


def _is_html(text: str, tagged: bool) -> bool:
    # A page with a long article in few tags is below any share, and tells itself by its beginning.
    return HTML_PAGE.match(text) is not None or (tagged and _HTML.search(text) is not None)


def _normalise(texts: pa.Array, form: Form, invisible: bool) -> pa.Array:
    return _each(texts, partial(normalise, form=form, invisible=invisible))
