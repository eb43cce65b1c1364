"""`tillage ask RUN "why was X dropped?"`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from tillage.agent.ask import EXAMPLES, Asked, Chooser, Intent
from tillage.agent.ask import ask as answer
from tillage.cli.answer import Answer, Common
from tillage.core.errors import UserError
from tillage.core.workspace import Workspace
from tillage.llm.endpoint import endpoint
from tillage.llm.settings import LLMSettings


def ask(run: str, question: str, /, *, common: Common = Common()) -> Answer:
    """Answer a question about a run from its records, with the ids of the rows.

    The answer is computed. If TILLAGE_LLM_URL names a language model, it is asked only what a question means
    that is not understood otherwise.

    Args:
        run: a run of the workspace, or a beginning of its name.
        question: for example "why was 3f2a9c dropped?", "how many rows did exact_dedup drop?".
    """
    try:
        told = answer(run, question, common.space)
    except UserError as error:
        if "not understood" not in error.what or LLMSettings.from_environment() is None:
            raise
        with endpoint() as settings:
            assert settings is not None
            told = answer(run, question, common.space, _chooser(settings, common.space))
    lines = [told.text]
    lines += ["rows: " + ", ".join(told.rows[:5])] if told.rows and told.rows[0] not in told.text else []
    return Answer(asdict(told), lines)


def _chooser(settings: LLMSettings, workspace: Workspace) -> Chooser:
    # An optional extra: questions that are understood need no model.
    from pydantic import BaseModel

    from tillage.agent.fence import DATA_RULE, fenced
    from tillage.llm.cache import AnswerCache
    from tillage.llm.client import LLMClient

    class Meaning(BaseModel):
        intent: Intent
        row: str = ""
        step: str = ""

    def choose(question: str, steps: Sequence[str]) -> Asked:
        client = LLMClient(settings, AnswerCache(workspace.root / "llm"))
        shown = {"question": question, "steps": list(steps), "intents": EXAMPLES}
        meant = client.ask(f"Say which of the intents the question has. {DATA_RULE}", fenced(shown), Meaning)
        return Asked(meant.intent, meant.row, meant.step if meant.step in steps else "")

    return choose
