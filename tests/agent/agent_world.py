"""A small goal with everything in it: documentation to keep, stories, copies, shuffled noise, a leak."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tillage.agent.goal import FrozenGoal, Goal, freeze
from tillage.agent.planner import Proposal, build
from tillage.agent.verify import Ladder, default_meter
from tillage.core.events import Event, EventLog
from tillage.core.workspace import Workspace
from tillage.data.profile import Profile, profile
from tillage.flow.places import Places
from tillage.flow.recipe import parse_sources
from tillage.flow.sample import take_sample

# fmt: off
SUBJECTS = ["the function", "this method", "each argument", "a returned list", "the given path", "the option"]
VERBS = ["returns", "raises an error for", "is called with", "accepts", "converts", "must not be"]
OBJECTS = ["the name of a file", "None when missing", "a list of keys", "the first element", "an integer"]
HEROES = ["the old king", "her sister", "a grey horse", "the sailor", "my brother", "the north wind"]
DEEDS = ["walked slowly through", "dreamed about", "had forgotten", "sang of", "looked upon", "came down to"]
PLACES = ["the dark forest", "the silver river", "that long winter", "the empty house", "the village"]
# fmt: on


def sentences(rng: random.Random, parts: Sequence[Sequence[str]], count: int) -> str:
    """Each sentence holds a rare word, so that only copies have long runs of words in common."""
    said = (" ".join(rng.choice(part) for part in parts).capitalize() for _ in range(count))
    return " ".join(f"{text} {rng.choice('pqrst')}{rng.randrange(10**5):x}." for text in said)


def documentation(rng: random.Random) -> str:
    return f"Section {rng.randrange(10**6)}. " + sentences(rng, (SUBJECTS, VERBS, OBJECTS), 12)


def story(rng: random.Random) -> str:
    return f"Chapter {rng.randrange(10**6)}. " + sentences(rng, (HEROES, DEEDS, PLACES), 12)


def noise(rng: random.Random) -> str:
    return "".join(rng.choices("0123456789abcdef=/+", k=600))


@dataclass
class World:
    """A goal frozen, its raw sample profiled, and a ladder over it."""

    frozen: FrozenGoal
    profile: Profile
    sample: Path
    workspace: Workspace
    events: list[Event]
    log: EventLog

    def ladder(self, frozen: FrozenGoal | None = None) -> Ladder:
        frozen = frozen or self.frozen
        return Ladder(frozen, self.sample, self.workspace, default_meter(frozen, self.log), self.log)

    def proposal(self, name: str, *steps: dict[str, Any]) -> Proposal:
        return Proposal(name, name, build(self.frozen, name, steps), "made by a test", "test")

    def allowing(self, **changes: Any) -> FrozenGoal:
        """The frozen goal with other constraints or budget."""
        goal = self.frozen.goal
        parts = {
            part: getattr(goal, part).model_copy(update={k: v for k, v in changes.items() if k in fields})
            for part, fields in (
                ("constraints", type(goal.constraints).model_fields),
                ("budget", type(goal.budget).model_fields),
            )
        }
        return FrozenGoal(goal.model_copy(update=parts), self.frozen.folder)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("agent")
    rng = random.Random(5)
    target = [{"text": documentation(rng), "group": f"g{i % 12}"} for i in range(60)]
    docs = [documentation(rng) for _ in range(120)]
    rows = [{"text": text, "domain": "docs"} for text in docs + docs[:30]]
    rows += [{"text": text.replace("Section", "Part"), "domain": "docs"} for text in docs[30:40]]
    rows += [{"text": story(rng), "domain": "stories"} for _ in range(200)]
    rows += [{"text": noise(rng), "domain": "noise"} for _ in range(60)]
    rows += [{"text": row["text"], "domain": "docs"} for row in target[:3]]
    (folder / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "target.jsonl").write_text("".join(json.dumps(row) + "\n" for row in target))
    goal = Goal.load(
        {
            "name": "docs",
            "task": "good at documentation",
            "sources": [{"jsonl": {"path": "raw.jsonl", "domain_field": "domain"}}],
            "target": {"path": "target.jsonl", "group_field": "group"},
            "budget": {"probe_bytes": 20_000, "seeds": 5, "probe_runs": 1000},
        },
        "test",
    ).based_at(folder)
    workspace = Workspace(folder / "workspace")
    frozen = freeze(goal, folder / "frozen")
    sources = parse_sources([dict(s) for s in goal.sources], None, Places("test"))
    sample = take_sample(sources, workspace, 1000, goal.seed)
    events: list[Event] = []
    return World(
        frozen,
        profile(sample, frozen.search()),
        sample,
        workspace,
        events,
        EventLog(None, [events.append]),
    )
