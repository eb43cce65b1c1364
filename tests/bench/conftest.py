import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "llm"))  # for the scripted server

from scripted_llm import llm

__all__ = ["llm"]
