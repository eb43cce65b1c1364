"""What licence a source file is under, as far as it says so itself."""

from __future__ import annotations

from functools import partial

import pyarrow as pa
from daft import Expression
from pydantic import Field

from tillage.kernels.licence import licence
from tillage.ops.base import Annotate, operator
from tillage.ops.udf import measure


@operator
class Licence(Annotate):
    """Name the licence in the header of a source file (`licence`, an SPDX identifier) by phrases.

    A file that names none may still be under its project's licence: null means unknown, not free. To keep
    permissive code alone: `where` with `licence in ('MIT', 'Apache-2.0', 'BSD-3-Clause')`.
    """

    source = "SPDX, ISO/IEC 5962:2021; use in Kocetkov et al. 2022 (The Stack), arXiv 2211.15533"

    head: int = Field(default=8000, ge=1, description="characters at the beginning that are looked at")

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {"licence": "SPDX identifier or expression; null where the header names none"}

    def writes(self) -> dict[str, pa.DataType]:
        return {"licence": pa.large_string()}

    def columns(self) -> dict[str, Expression]:
        return {"licence": measure(partial(_licences, head=self.head), pa.large_string())}


def _licences(texts: pa.Array, head: int) -> pa.Array:
    found = [None if text is None else licence(text, head) for text in texts.to_pylist()]
    return pa.array(found, pa.large_string())
