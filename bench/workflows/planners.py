"""The planners that are measured: the embedded one, and language models beside it or by themselves."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager

from tillage.agent.embedded import EmbeddedPlanner
from tillage.agent.planner import Planner
from tillage.agent.planners import planner_from_environment
from tillage.agent.together import CompetingPlanner
from tillage.core.errors import UserError
from tillage.core.events import EventLog
from tillage.core.workspace import Workspace
from tillage.llm.endpoint import endpoint
from tillage.llm.local import LOCAL
from tillage.llm.settings import LLMSettings

Make = Callable[[Workspace, EventLog], Planner]

EMBEDDED, LLM, ALONE = "embedded", "llm", "-alone"
KNOWN = (EMBEDDED, LOCAL, LLM, LOCAL + ALONE, LLM + ALONE)
"""`local` and `llm` are what `tillage plan --llm local` and `--planner llm --fallback` do: the model's
recipes compete with the embedded planner's. Alone, the model has nothing beside it or to fall back on."""


@contextmanager
def planners(names: Sequence[str]) -> Generator[list[tuple[str, Make]]]:
    """Each planner's name and how to make it anew for a task. A local model is served until the block ends.

    Raises:
        UserError: an endpoint or a model is asked for and not there.
    """
    with ExitStack() as stack:
        served: dict[str, LLMSettings] = {}
        made: list[tuple[str, Make]] = []
        for name in names:
            if name == EMBEDDED:
                made.append((name, lambda workspace, log: EmbeddedPlanner()))
                continue
            model = name.removesuffix(ALONE)
            if model not in served:
                served[model] = _settings(stack, model)
            made.append((name, _asking(served[model], alone=name.endswith(ALONE))))
        yield made


def _settings(stack: ExitStack, model: str) -> LLMSettings:
    settings = stack.enter_context(endpoint(LOCAL if model == LOCAL else None))
    if settings is None:
        raise UserError(
            "no language model is named",
            where="TILLAGE_LLM_URL",
            hint="set TILLAGE_LLM_URL, _MODEL and _KEY, or take the planner local",
        )
    return settings


def _asking(settings: LLMSettings, alone: bool) -> Make:
    def make(workspace: Workspace, log: EventLog) -> Planner:
        both = planner_from_environment(workspace, log, settings, fallback=True)
        assert isinstance(both, CompetingPlanner)
        return both.first if alone else both

    return make
