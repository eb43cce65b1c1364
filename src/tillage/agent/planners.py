"""Which planner a session uses: the embedded one, or the language model that the environment names."""

from __future__ import annotations

from pathlib import Path

from tillage.agent.embedded import EmbeddedPlanner
from tillage.agent.memory import Memory
from tillage.agent.planner import Planner
from tillage.core.errors import UserError
from tillage.core.events import EventLog
from tillage.core.workspace import Workspace
from tillage.llm.settings import LLMSettings

MEMORY = "experience.jsonl"


def memory(workspace: Workspace) -> Memory:
    """The experience store of a workspace."""
    return Memory(workspace.root / MEMORY)


def planner_from_environment(
    workspace: Workspace, log: EventLog | None = None, settings: LLMSettings | None = None
) -> Planner:
    """The LLM planner if `TILLAGE_LLM_URL` is set (or `settings` given), else the embedded one.

    Raises:
        UserError: a language model is named and the extra `agent` is not installed.
    """
    settings = settings or LLMSettings.from_environment()
    if settings is None:
        return EmbeddedPlanner(memory(workspace))
    try:
        # An optional extra: the embedded planner must work without it.
        from tillage.agent.llm_planner import LLMPlanner
        from tillage.llm.cache import AnswerCache
        from tillage.llm.client import LLMClient
    except ImportError as error:
        raise UserError(
            "TILLAGE_LLM_URL is set and the language model client is not installed",
            got=str(error),
            hint="pip install 'tillage[agent]', or unset TILLAGE_LLM_URL",
        ) from error
    folder: Path = workspace.root / "llm"
    return LLMPlanner(LLMClient(settings, AnswerCache(folder), log), log)
