import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "llm"))  # for the scripted server

from agent_world import World, made
from scripted_llm import llm

__all__ = ["llm", "made", "world"]


@pytest.fixture
def world(made: World) -> World:
    made.events.clear()
    return made
