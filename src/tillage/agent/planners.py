"""Which planner a session uses: the embedded one, and with it a language model if one is named."""

from __future__ import annotations

from pathlib import Path

from tillage.agent.embedded import EmbeddedPlanner
from tillage.agent.memory import Memory
from tillage.agent.planner import Planner
from tillage.agent.together import CompetingPlanner
from tillage.core.errors import UserError
from tillage.core.events import EventLog
from tillage.core.workspace import Workspace
from tillage.llm.settings import LLMSettings

MEMORY = "experience.jsonl"


def memory(workspace: Workspace) -> Memory:
    """The experience store of a workspace."""
    return Memory(workspace.root / MEMORY)


def planner_from_environment(
    workspace: Workspace,
    log: EventLog | None = None,
    settings: LLMSettings | None = None,
    fallback: bool = False,
) -> Planner:
    """The embedded planner, together with the LLM planner if `TILLAGE_LLM_URL` is set (or `settings` given).

    Args:
        fallback: where the language model fails, go on without it and say so.

    Raises:
        UserError: a language model is named and the extra `agent` is not installed, or a local one is named,
            which has to be served (`tillage.llm.endpoint`).
    """
    settings = settings or LLMSettings.from_environment()
    embedded = EmbeddedPlanner(memory(workspace))
    if settings is None:
        return embedded
    if settings.url == "local":
        raise UserError(
            "a local model must be served first",
            where="TILLAGE_LLM_URL",
            hint="tillage plan --llm local serves it; other commands take the URL of a server",
        )
    try:
        # An optional extra: the embedded planner must work without it.
        from tillage.agent.llm_planner import LLMPlanner
        from tillage.llm.cache import AnswerCache
        from tillage.llm.client import LLMClient
    except ImportError as error:
        raise UserError(
            "a language model is named and its client is not installed",
            got=str(error),
            hint="pip install 'tillage[agent]', or unset TILLAGE_LLM_URL",
        ) from error
    folder: Path = workspace.root / "llm"
    client = LLMClient(settings, AnswerCache(folder), log)
    return CompetingPlanner(LLMPlanner(client, log, workspace=workspace), embedded, log, fallback)
