"""The language model of a session: the one that the environment names, a local one, or none."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from tillage.llm.local import LOCAL, local_model
from tillage.llm.settings import LLMSettings


@contextmanager
def endpoint(named: str | None = None) -> Generator[LLMSettings | None]:
    """Settings of the endpoint to ask, None if there is none. A local model is served until the block ends.

    Args:
        named: "local" for the local model whatever the environment says.

    Raises:
        UserError: malformed variables, or a local model that is not installed.
    """
    settings = LLMSettings.from_environment()
    if named == LOCAL or (settings is not None and settings.url == LOCAL):
        with local_model() as served:
            yield served
        return
    yield settings
