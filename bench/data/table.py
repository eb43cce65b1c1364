"""A work's section of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.data.work import Work


def section(work: Work, about: Mapping[str, Any], result: Mapping[str, Any], repeat: int) -> str:
    """Markdown: what was done, the table of tools, ratios against what is to be reached, the check."""
    corpus = about["corpus"]
    tools = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    setting = (
        f"`{about['command']}`; {about['machine']}; {tools}. Input: "
        f"{corpus['mb']:.0f} MB of JSONL, {corpus['documents']:,} documents, up to a fifth near-copies; "
        "smaller inputs are drawn alike, and start-up weighs more on them. "
        f"Medians of {repeat} whole processes in turn, with the range; load of the machine meanwhile "
        f"{result['load']}, of which two at most are the tool's: above it the times of processor say more. "
        f"Compiling the kernels, once a machine, took {about['compilation']['compiling_s']:.1f} s more."
    )
    lines = [
        work.about,
        "",
        setting,
        "",
        "| tool | MB read | MB/s | range | seconds | of processor | peak MB | kept of rows | Tillage is |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    sliced = {side.tool: side for side in work.sides}
    for tool, found in result["tools"].items():
        side = sliced[tool]
        name = (
            tool + (f" {side.peer.version}" if side.peer else "") + (f" ({side.note})" if side.note else "")
        )
        ratio = result["ratios"].get(tool)
        goal = work.reach.get(tool)
        faster = "" if ratio is None else f"{ratio:.3g}x"
        if goal is not None and ratio is not None:
            faster += f" (to reach: {goal:g}x{'' if ratio >= goal else ', missed'})"
        low, high = found["range"]
        lines.append(
            f"| {name} | {found['mb']:.3g} | {found['mb_s']:.3g} | {low:.3g} to {high:.3g} | "
            f"{found['seconds']:.2f} | {found['cpu_s']:.1f} | {found['peak_mb']:,.0f} | "
            f"{found['kept']:,} of {found['rows']:,} | {faster} |"
        )
    for tool, why in {**result["missing"], **result["failed"]}.items():
        lines.append(f"| {tool} | not measured: {' '.join(why.split())[-200:]} | | | | | | | |")
    for key, value in {**result.get("derived", {}), **result.get("check", {})}.items():
        lines += (
            ["", f"{key}: {value}"] if not isinstance(value, list) else ["", f"{key}:", "", *map(str, value)]
        )
    return "\n".join(lines)
