"""The index by id finds what a search through all rows finds."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from tillage.flow.rowindex import SEVERAL, keys, look_up, write_index

IDS = st.text(st.sampled_from("01aé"), min_size=1, max_size=12)


@given(ids=st.lists(IDS, unique=True, max_size=40), beginning=st.text(st.sampled_from("01aé"), max_size=11))
def test_rows_are_found_by_the_beginning_of_their_id(ids: list[str], beginning: str) -> None:
    table = pa.table({"id": pa.array(ids, pa.large_string()), "n": list(range(len(ids)))})
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        pq.write_table(table, path, row_group_size=7)
        write_index(path, [keys(table.column("id").combine_chunks())])
        found = look_up(path, beginning)
        expected = [row for row in table.to_pylist() if row["id"].startswith(beginning)]
        if len(beginning.encode()) > 8 or len(expected) < SEVERAL:
            assert found == expected
        else:
            assert len(found) >= 2
            assert all(row in expected for row in found)
        for row in table.to_pylist():
            assert row in look_up(path, row["id"]) or len(row["id"].encode()) <= 8
