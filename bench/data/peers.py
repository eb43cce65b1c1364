"""The peers, each in an environment of its own below .venv-peers/, made once."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.page import ROOT

FOLDER = ROOT / ".venv-peers"


@dataclass(frozen=True)
class Peer:
    """A tool: its distribution and version, what must be installed beside it."""

    name: str
    version: str
    requirements: tuple[str, ...]

    @property
    def python(self) -> Path:
        return FOLDER / self.name / "bin" / "python"

    def install(self) -> str:
        """Makes the environment if it is not there; "" or why it cannot be made."""
        mark = hashlib.blake2b(repr(self.requirements).encode(), digest_size=4).hexdigest()
        stamp = FOLDER / self.name / f".installed-{mark}"
        if stamp.exists():
            return ""
        print(f"== installing {self.name} {self.version} into {self.python.parent.parent}", file=sys.stderr)
        FOLDER.mkdir(exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", str(FOLDER / self.name)], check=True)
        pip = [str(self.python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        made = subprocess.run([*pip, *self.requirements], capture_output=True, text=True)
        if made.returncode:
            return _last_line(made.stderr)
        stamp.touch()
        return ""


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if "ERROR" in line] or text.strip().splitlines()
    return lines[-1] if lines else "pip failed and said nothing"


DATATROVE = Peer(
    "datatrove", "0.10.1", ("datatrove[io,processing]==0.10.1", "spacy", "nltk", "lxml_html_clean")
)
# data-juicer does not name aiohttp, and would install torch by itself in its first, measured run.
DATA_JUICER = Peer("data-juicer", "1.6.1", ("py-data-juicer==1.6.1", "aiohttp", "torch"))
TEXT_DEDUP = Peer("text-dedup", "0.4.0", ("text-dedup==0.4.0",))
RENSA = Peer("rensa", "0.5.0", ("rensa==0.5.0", "pyarrow"))
