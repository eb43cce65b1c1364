"""A real small model, offline: it plans from a menu in constrained JSON; the ladder keeps the result good."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("pydantic_ai")

from agent_world import World

from tillage.agent import llm_steps
from tillage.agent.choose import EQUAL_BPB
from tillage.agent.compete import compete
from tillage.agent.embedded import EmbeddedPlanner
from tillage.agent.llm_planner import LLMPlanner
from tillage.agent.planner import catalogue
from tillage.agent.together import CompetingPlanner
from tillage.core.errors import UserError, WorkFailed
from tillage.core.events import Cost, Note
from tillage.flow.check import check
from tillage.llm.client import LLMClient
from tillage.llm.local import PACKAGE, local_model, model_file

pytestmark = pytest.mark.skipif(
    find_spec("xllamacpp") is None or find_spec(PACKAGE) is None,
    reason="needs the extra local-llm and a model",
)


def test_the_small_model_plans_and_the_result_is_no_worse(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm_steps, "MOST_PICKS", 2)
    monkeypatch.setattr(llm_steps, "MOST_OFFERS", 8)
    # One thread: beside other work, threads that wait for each other spin.
    with local_model(context=2048, threads=1) as settings:
        assert settings.url.startswith("http://127.0.0.1:")
        client = LLMClient(settings, log=world.log)
        picked = LLMPlanner(client, world.log, workspace=world.workspace)
        embedded = EmbeddedPlanner()
        both = CompetingPlanner(picked, embedded, world.log, fallback=True)
        proposals = both.propose(world.frozen, world.profile, catalogue(world.frozen))
    assert all(not check(proposal.recipe) for proposal in proposals)
    spent = [event for event in world.events if isinstance(event, Cost)]
    assert spent[-1].tokens > 100
    fell_back = any(isinstance(e, Note) and "goes on alone" in e.text for e in world.events)
    assert fell_back or any(proposal.planner == picked.name for proposal in proposals)
    # Two are enough to see that the choice goes by effect, whoever proposed: the ladder is tested elsewhere.
    ladder = world.ladder()
    rivals = [proposals[0], *(p for p in proposals if p.planner == picked.name)]
    verdicts = [ladder.verify(proposal) for proposal in rivals]
    chosen = compete(ladder, verdicts).winner
    first = verdicts[0].effect
    assert first is not None
    assert chosen.effect.interval.mean <= first.interval.mean + EQUAL_BPB


def test_a_missing_or_broken_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        model_file({"TILLAGE_LLM_GGUF": str(tmp_path / "none.gguf")})
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF and nothing else")
    with pytest.raises(WorkFailed, match="does not start"), local_model(broken):
        pass
