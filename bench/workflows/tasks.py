"""The tasks: what is planted together, and a task's folder with goal, data, target and truth."""

from __future__ import annotations

import json
import random
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from bench.workflows.chats import conversations
from bench.workflows.faults import FAULTS, Vocabulary
from bench.workflows.rows import Row
from bench.workflows.text import LEAST_OF_A_DOMAIN, Passage, Pool

Layout = Literal["plain", "schemas", "chat"]

CLEAN, TARGET, MOST_DOMAINS = 700, 200, 3


@dataclass(frozen=True)
class Task:
    """`faults`: kind -> faulty rows for each clean row."""

    name: str
    faults: dict[str, float]
    layout: Layout = "plain"
    domains: int = 0
    """How many domains; 0 leaves it to the seed."""


TASKS = (
    Task("near_copies", {"near_copies": 0.3}),
    Task("boilerplate", {"boilerplate": 0.4}),
    Task("mojibake", {"mojibake": 0.3}),
    Task("wrong_language", {"wrong_language": 0.3}),
    Task("html", {"html": 0.3}),
    Task("pii", {"pii": 0.25}),
    Task("contamination", {"contamination": 0.1}),
    Task("shuffled", {"shuffled": 0.3}),
    Task("truncated", {"truncated": 0.3}),
    Task("gibberish", {"gibberish": 0.3}),
    Task("mislabelled", {"mislabelled": 0.2}, domains=3),
    Task("poisoned", {"poisoned": 0.15}),
    Task("mixed_schemas", {"schema": 0.6}, "schemas"),
    Task("broken_turns", {"broken_turns": 0.3}, "chat"),
    Task("duplicated_prompts", {"duplicated_prompts": 0.3}, "chat"),
    Task("bad_answers", {"bad_answers": 0.3}, "chat"),
    Task("scraped_pages", {"html": 0.2, "boilerplate": 0.2, "mojibake": 0.1}),
    Task("crawl", {"near_copies": 0.15, "boilerplate": 0.15, "wrong_language": 0.15, "gibberish": 0.1}),
    Task("leaked_benchmark", {"contamination": 0.08, "near_copies": 0.15, "pii": 0.1}),
    Task("forum", {"pii": 0.15, "html": 0.15, "truncated": 0.15}),
    Task("broken_export", {"shuffled": 0.1, "gibberish": 0.1, "wrong_language": 0.1, "truncated": 0.1}),
    Task("hostile", {"poisoned": 0.1, "shuffled": 0.1, "near_copies": 0.15}),
    Task("mixed_labels", {"mislabelled": 0.1, "truncated": 0.1, "boilerplate": 0.15}, domains=3),
    Task("merged_sources", {"schema": 0.4, "near_copies": 0.1, "pii": 0.1}, "schemas"),
    Task("chat_dump", {"broken_turns": 0.15, "duplicated_prompts": 0.15, "bad_answers": 0.15}, "chat"),
    Task(
        "everything", {"near_copies": 0.1, "mojibake": 0.1, "html": 0.1, "gibberish": 0.1, "poisoned": 0.05}
    ),
    Task("mostly_noise", {"gibberish": 0.6, "shuffled": 0.6, "wrong_language": 0.6}),
    Task("few_faults", {"near_copies": 0.03, "gibberish": 0.03, "wrong_language": 0.03, "mojibake": 0.03}),
)


@dataclass
class Built:
    """A task on disk: `goal.yaml`, `data/*.jsonl`, `target.jsonl`, `truth.json`."""

    task: Task
    seed: int
    folder: Path
    rows: list[Row]

    @property
    def goal(self) -> Path:
        return self.folder / "goal.yaml"


def build(task: Task, pool: Pool, seed: int, folder: Path) -> Built | None:
    """Write the task; None where the text cannot hold it (labels need two domains)."""
    rng = random.Random(zlib.crc32(task.name.encode()) * 1_000 + seed)
    if task.layout == "chat":
        rows, target = conversations(task.faults, pool, rng, CLEAN, TARGET)
    else:
        passages, target_passages = _split(task, pool, rng)
        if "mislabelled" in task.faults and len({p.domain for p in passages}) < 2:
            return None
        target = [{"text": p.text, "group": p.document} for p in target_passages]
        rows = _plant(task, passages, target_passages, Vocabulary.draw(rng, pool, passages), rng)
    rng.shuffle(rows)
    _write(task, rows, target, folder, rng, seed)
    return Built(task, seed, folder, rows)


def _split(task: Task, pool: Pool, rng: random.Random) -> tuple[list[Passage], list[Passage]]:
    """Clean passages and target passages, alike in their mixture, from different documents."""
    most = min(len(pool.domains), MOST_DOMAINS)
    names = rng.sample(sorted(pool.domains), min(task.domains or rng.randint(1, most), most))
    need = {name: (CLEAN + TARGET) // len(names) for name in names}
    clean: list[Passage] = []
    target: list[Passage] = []
    for name in names:
        documents = sorted({p.document for p in pool.domains[name]})
        rng.shuffle(documents)
        by_document: dict[str, list[Passage]] = {}
        for passage in pool.domains[name]:
            by_document.setdefault(passage.document, []).append(passage)
        size = min(need[name], len(pool.domains[name]))
        quota = size * TARGET // (CLEAN + TARGET)
        mine: list[Passage] = []
        rest: list[Passage] = []
        for document in documents:
            (mine if len(mine) < quota else rest).extend(by_document[document])
        target += mine[:quota]
        clean += rng.sample(rest, min(size - quota, len(rest)))
    return clean, target


def _plant(
    task: Task, passages: list[Passage], target: list[Passage], v: Vocabulary, rng: random.Random
) -> list[Row]:
    """Faulty rows take the place of clean ones: a passage is clean, or the ground of one fault."""
    rest = rng.sample(passages, len(passages))
    rows: list[Row] = []
    total = 1.0 + sum(share for kind, share in task.faults.items() if kind != "near_copies")
    for kind, share in task.faults.items():
        count = max(round(len(passages) * share / total), 5)
        if kind == "near_copies":
            continue
        count = min(count, len(rest) - LEAST_OF_A_DOMAIN // 2)
        rows += [_faulty(kind, rest.pop(), target, v, rng) for _ in range(count)]
    rows += [Row(p.text, p.domain) for p in rest]
    if "near_copies" in task.faults:
        clean = [row for row in rows if not row.fault]
        chosen = rng.sample(
            clean, max(min(round(len(rest) * task.faults["near_copies"] / 1.5), len(clean)), 5)
        )
        for number, row in enumerate(chosen):
            row.group = f"copies-{number}"
            for _ in range(rng.choice([1, 1, 2])):
                made = FAULTS["near_copies"][1](row.text, v)
                rows.append(
                    Row(made.text, row.domain, "near_copies", "copy", original=row.text, group=row.group)
                )
    return rows


def _faulty(kind: str, passage: Passage, target: list[Passage], v: Vocabulary, rng: random.Random) -> Row:
    if kind == "contamination":
        leak = rng.choice(target).text
        part = leak if rng.random() < 0.5 else leak[: max(len(leak) // 2, 300)]
        text = part if rng.random() < 0.5 else f"{passage.text[:400]}\n\n{part}"
        return Row(text, passage.domain, kind, "drop")
    if kind == "mislabelled":
        others = sorted({p.domain for p in target} - {passage.domain})
        return Row(passage.text, rng.choice(others), kind, "drop", label=passage.domain)
    if kind == "schema":
        return Row(passage.text, passage.domain, kind, "read", original=passage.text)
    cure, make = FAULTS[kind]
    made = make(passage.text, v)
    original = (made.original or passage.text) if cure == "mend" else ""
    return Row(made.text, passage.domain, kind, cure, made.marks, original)


def _write(
    task: Task, rows: list[Row], target: list[dict[str, str]], folder: Path, rng: random.Random, seed: int
) -> None:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    forms = [("text", {}), ("content", {"title": "x"}), ("body", {"url": "x", "date": "x"})]
    names = rng.sample(["part", "export", "dump", "batch"], 3)
    held: dict[str, list[str]] = {}
    for number, row in enumerate(rows):
        form = rng.choice([1, 2]) if row.fault == "schema" else 0
        row.file = f"{names[form]}-{number % 2}.jsonl"
        lines = held.setdefault(row.file, [])
        row.line = len(lines) + 1
        lines.append(json.dumps(_record(task, row, forms[form], number), ensure_ascii=False))
    for file, lines in held.items():
        (folder / "data" / file).write_text("\n".join(lines) + "\n", "utf-8")
    with (folder / "target.jsonl").open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in target)
    truth = [{k: v for k, v in asdict(row).items() if k != "record"} for row in rows]
    (folder / "truth.json").write_text(json.dumps(truth, ensure_ascii=False), "utf-8")
    (folder / "goal.yaml").write_text(yaml.safe_dump(_goal(task, seed), sort_keys=False), "utf-8")


def _record(task: Task, row: Row, form: tuple[str, dict[str, str]], number: int) -> dict[str, Any]:
    if task.layout == "chat":
        return {"id": f"c{number:05d}", **row.record}
    name, more = form
    record: dict[str, Any] = {"id": f"r{number:05d}", "domain": row.domain, name: row.text}
    if "title" in more:
        record["title"] = " ".join(row.text.split()[:5])
    if "url" in more:
        record |= {"url": f"https://example.org/{number}", "date": f"2024-{number % 12 + 1:02d}-11"}
    return record


def _goal(task: Task, seed: int) -> dict[str, Any]:
    source: dict[str, Any] = {"path": "data"}
    if task.layout == "plain":
        source |= {"domain_field": "domain"}
    if task.layout == "chat":
        source |= {"chat": "auto"}
    return {
        "name": task.name.replace("_", "-"),
        "task": "Repair what is broken, drop what cannot be repaired, and keep every sound document.",
        "kind": "sft" if task.layout == "chat" else "pretrain",
        "aim": "clean",
        "sources": [{"jsonl": source}],
        "target": {"path": "target.jsonl", "group_field": "group"},
        "budget": {"minutes": 3, "probe_runs": 120, "probe_bytes": 1_000_000, "seeds": 5},
        "seed": seed,
    }
