"""From the results of `bench.interaction.scaling` to its section of docs/benchmarks.md.

python -m bench.interaction.scaling_page FILE [FILE ...]
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from bench.page import write_results, write_section

Found = dict[str, Any]


def merged(parts: list[Found]) -> Found:
    """Several calls of the benchmark as one: rows one after the other, settings of the first."""
    whole: Found = {}
    for part in parts:
        for key, value in part.items():
            if isinstance(value, list) and key != "worlds":
                whole.setdefault(key, []).extend(value)
            else:
                whole.setdefault(key, value)
    return whole


def same_table(rows: list[Found]) -> list[str]:
    lines = [
        "| run | processes | steps with the same samples | mixture | losses | sample weights | parameters |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        run = f"{row.get('model', 'resumed')} {row.get('dtype', '')} {row['kind']}".replace("  ", " ")
        if row["exit"]:
            lines.append(f"| {run} | {row['world']} | failed, exit {row['exit']} | | | | |")
            continue
        lines.append(
            f"| {run} | {row['world']} | {row['steps_with_equal_samples']} of {row['steps']} "
            f"| {row['mixture_difference']:.1e} | {row['loss_difference']:.1e} "
            f"| {row['weight_difference']:.1e} | {row['parameter_distance']:.1e} |"
        )
    return lines


def speed_table(rows: list[Found]) -> list[str]:
    lines = [
        "| model | arm | processes | tokens/s | against one | MFU | overhead (each) | scoring, s a step |",
        "|---|---|---|---|---|---|---|---|",
    ]
    alone = {
        (r["model"], r["arm"]): r["tokens_per_second"] for r in rows if r.get("world") == 1 and "arm" in r
    }
    for row in sorted(rows, key=lambda r: (r["model"], r.get("world", 0), r.get("kind", ""))):
        if "arm" not in row:
            lines.append(f"| {row['model']} | | {row['world']} | failed | | | | |")
            continue
        one = alone.get((row["model"], row["arm"]))
        kind = "" if row["world"] == 1 else f" {row['kind']}"
        each = row["overheads"]
        cost = "" if not each else f"{statistics.median(each):.1%} ({', '.join(f'{e:.1%}' for e in each)})"
        spent = sum(row["ledger_s_per_step"].values())
        faster = "" if one is None else f"{row['tokens_per_second'] / one:.2f}x"
        share = "" if row["mfu"] is None else f"{row['mfu']:.1%}"
        lines.append(
            f"| {row['model']} | {row['arm']} | {row['world']}{kind} | {row['tokens_per_second']:,.0f} "
            f"| {faster} | {share} | {cost} | {spent:.3f} |"
        )
    return lines


def section(found: Found) -> str:
    """The whole section."""
    about = (
        f"{found['device']}, up to {max(found['worlds'])} of one host, torch {found['torch']}; "
        f"`python -m bench.interaction.scaling`. The policy is ADO + RHO selection (keep 0.9) + LinUpper, "
        f"the text seven real domains and one of noise. Raw: `bench/results/scaling.json`."
    )
    what = (
        f"**The same run at every world size** ({found['steps']} steps, `passes: {found['passes']}`): "
        "samples are compared to the last bit, the rest by its largest difference from one process, "
        "parameters by the relative distance of all of them after the last step."
    )
    lines = [
        about,
        "",
        what,
        "",
        *same_table(found.get("same", [])),
    ]
    if isinstance(found.get("kill"), dict):
        kill = found["kill"]
        died = (
            f"**A process killed** (SIGKILL before the backward pass of step {kill['killed_in_step']}): "
            f'the job ended after {kill["seconds_to_end"]} s with exit {kill["exit"]}: "{kill["error"]}". It '
            "went on from its last checkpoint as below, against the same run never killed."
        )
        lines += [
            "",
            died,
            "",
            *same_table(found.get("resumed", [])),
        ]
    if "speed" in found:
        how = (
            "**Speed**, torch.compile, bf16, 65,536 tokens a step and process: the step grows with the "
            "processes. Overheads are of a block of steps against the plain blocks around it. One process: "
            "both models at once, each on its own GPU."
        )
        lines += [
            "",
            how,
            "",
            *speed_table(found["speed"]),
        ]
    return "\n".join(lines)


def main() -> None:
    found = merged([json.loads(Path(name).read_text()) for name in sys.argv[1:]])
    write_results("scaling", found)
    write_section("scaling", "Several GPUs: the same data on every world size", section(found))


if __name__ == "__main__":
    main()
