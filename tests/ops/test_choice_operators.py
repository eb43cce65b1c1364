"""Sampling by temperature, the top k of groups, licences."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tillage.core.errors import UserError
from tillage.core.events import EventLog
from tillage.core.workspace import Workspace
from tillage.data.schema import BASE
from tillage.data.sources import Jsonl
from tillage.flow.recipe import Recipe, Step
from tillage.flow.run import run
from tillage.kernels.licence import licence
from tillage.ops.conformance import execute
from tillage.ops.licence import Licence
from tillage.ops.select import TemperatureSample, TopK, temperature_budgets


def rows(texts, domains):
    count = len(texts)
    columns = [[f"{i:032x}" for i in range(count)], texts, domains, ["f"] * count, list(range(count))]
    columns += [[None] * count] * 2
    arrays = [pa.array(column, kind) for column, kind in zip(columns, BASE.types, strict=True)]
    return pa.table(arrays, schema=BASE)


def kept(op, table):
    dead = execute(op, table).column("_drop").to_pylist()
    return [i for i, drop in enumerate(dead) if drop is None]


@settings(max_examples=100)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6), st.floats(1, 50), st.sampled_from([0, 0.05]))
def test_temperature_budgets(sizes, temperature, least):
    total = sum(sizes)
    budgets = temperature_budgets(np.array(sizes, np.float64), temperature, least)
    taken = [i for i, size in enumerate(sizes) if size and size >= least * total]
    assert all(budgets[i] == size for i, size in enumerate(sizes) if i not in taken)
    assert all(0 <= budgets[i] <= sizes[i] for i in taken)
    assert not taken or any(budgets[i] == sizes[i] for i in taken)
    for i in taken:
        for j in taken:
            if sizes[i] >= sizes[j]:
                ratio = (sizes[i] / sizes[j]) ** (1 / temperature)
                assert budgets[i] == pytest.approx(ratio * budgets[j], abs=ratio + 1)


def test_temperature_flattens_shares():
    table = rows(["x" * 10] * 430, ["web"] * 400 + ["book"] * 25 + [None] * 4 + ["rare"])
    by = {t: kept(TemperatureSample(temperature=t), table) for t in (1.0, 2.0, 1000.0)}
    assert by[1.0] == list(range(430))
    assert sum(i < 400 for i in by[2.0]) == 100
    assert set(range(400, 430)) < set(by[2.0])
    assert sum(i < 400 for i in by[1000.0]) == 25
    assert set(by[1000.0]) < set(by[2.0])
    assert by[2.0] == kept(TemperatureSample(by="rows"), table) != kept(TemperatureSample(seed=1), table)


def test_top_k_of_each_group():
    texts = ["a b c", "a", "a b", "a b c d", "x", "x y", None]
    table = rows(texts, ["p", "p", "p", "q", None, None, "q"])
    assert kept(TopK(k=1, column="words"), table) == [0, 3, 5]
    assert kept(TopK(k=2, column="words"), table) == [0, 2, 3, 4, 5, 6]
    assert kept(TopK(k=1, column="words", highest=False), table) == [1, 3, 4]
    assert kept(TopK(k=1, column="line", by="source"), table) == [6]
    equal = rows(["same"] * 50, ["p"] * 50)
    assert len(kept(TopK(k=7, column="words"), equal)) == 7
    assert kept(TopK(k=7, column="words"), equal) != kept(TopK(k=7, column="words", seed=1), equal)
    with pytest.raises(UserError, match="not of numbers"):
        execute(TopK(k=1, column="source"), table)


GPL = "under the terms of the GNU {}General Public License as published by the Free Software Foundation; {}"
BSD = "Redistribution and use in source and binary forms, with or without modification, are permitted."
HEADERS = {
    "Permission is hereby granted, free of charge, to any person obtaining a copy of this software": "MIT",
    "Licensed under the Apache License, Version 2.0 (the License)": "Apache-2.0",
    "see http://www.apache.org/licenses/LICENSE-2.0 for the license": "Apache-2.0",
    "subject to the terms of the Mozilla Public License, v. 2.0.": "MPL-2.0",
    GPL.format(
        "", "either version 2 of the License, or (at your option) any later version."
    ): "GPL-2.0-or-later",
    GPL.format("", "version 2."): "GPL-2.0-only",
    GPL.format("Lesser ", "either version 2.1 of the License, or any later version"): "LGPL-2.1-or-later",
    GPL.format("Affero ", "version 3"): "AGPL-3.0-only",
    BSD: "BSD-2-Clause",
    f"{BSD} Neither its name may be used to endorse or promote products": "BSD-3-Clause",
    "Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is "
    "hereby granted, provided that the above copyright notice": "ISC",
    "This is free and unencumbered software released into the public domain.": "Unlicense",
    "under the terms of the GNU General Public License": None,
    "a driver needs a licence and a permission slip": None,
}


@settings(max_examples=80)
@given(
    st.sampled_from(list(HEADERS)),
    st.sampled_from(["# ", "// ", " * ", "-- ", ";; ", "% ", "dnl ", ""]),
    st.integers(30, 90),
    st.sampled_from(["", "#!/bin/sh\n", "/* 版权所有 © */\n"]),
)
def test_headers_read_the_same_in_every_comment_style(header, sign, width, before):
    lines, line = [], ""
    for word in header.split():
        if line and len(line) + len(word) > width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    text = before + "".join(f"{sign}{part}\n" for part in [*lines, line]) + "x = 1\n"
    assert licence(text) == HEADERS[header]


def test_identifiers_count_first_and_only_the_head_is_read():
    mit = next(iter(HEADERS))
    assert licence(f"// SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note\n{mit}") == (
        "GPL-2.0-only WITH Linux-syscall-note"
    )
    assert licence("/* SPDX-License-Identifier: (MIT) */") is None
    assert licence("x\n" * 5000 + mit) is None
    table = rows([mit, "print(1)", "", None], ["code"] * 4)
    assert execute(Licence(), table).column("licence").to_pylist() == ["MIT", None, None, None]
    assert execute(Licence(head=20), table).column("licence").to_pylist() == [None] * 4


def test_a_run_ranks_by_what_it_measured(tmp_path):
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(json.dumps({"text": "word " * n}) + "\n" for n in (3, 9, 1, 7)))
    recipe = Recipe.model_validate(
        {
            "name": "best",
            "sources": (Jsonl(path=(str(raw),), domain="x"),),
            "steps": (Step(op=TopK(k=2, column="words")),),
        }
    )
    result = run(recipe, Workspace.default(tmp_path / "home"), EventLog(None, []))
    assert sorted(result.kept_table(["words"]).column("words").to_pylist()) == [7, 9]
