"""Runs the code blocks of one Markdown file, top to bottom, in the current folder: `python blocks.py FILE`.

```python blocks share one namespace. Of ```bash blocks, lines that begin with `tillage` are run and must
exit with 0; others must be on the allow list and are not run. A block whose info string names a file
(```yaml goal.yaml) is written to that file. ```text blocks are output. Anything else is refused, so that no
block goes unchecked by mistake.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOT_RUN = [
    r"make (demo|test)( ARGS=.*)?",
    r"(python3? -m )?pip install .*",
    r"(\.venv/bin/)?tillage demo( .*)?",  # minutes: tested as a whole elsewhere
    r"git clone .*",
    r"cd \S+",
    r"torchrun .*",
]
SHOWN_ONLY = {"text", "mermaid"}


@dataclass(frozen=True)
class Block:
    """A fenced block: language, the file it is to be written to, its text, and the line of its first line."""

    language: str
    file: str
    text: str
    line: int


def blocks(markdown: str) -> Iterator[Block]:
    """The fenced blocks in order; indented fences keep their relative indentation."""
    found = re.compile(
        r"^(?P<in> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=in)```[ ]*$", re.MULTILINE | re.DOTALL
    )
    for match in found.finditer(markdown):
        words = match["info"].split()
        text = re.sub(f"^{match['in']}", "", match["text"], flags=re.MULTILINE)
        line = markdown.count("\n", 0, match.start()) + 2
        yield Block(words[0] if words else "", words[1] if len(words) > 1 else "", text, line)


def commands(text: str) -> Iterator[str]:
    """Command lines: continuations joined, comments and prompts left out."""
    for line in text.replace("\\\n", " ").splitlines():
        command = line.strip().removeprefix("$ ")
        if command and not command.startswith("#"):
            yield command


def run_command(command: str, where: str) -> None:
    words = shlex.split(command, comments=True)
    if any(re.fullmatch(allowed, shlex.join(words)) or re.fullmatch(allowed, command) for allowed in NOT_RUN):
        return
    if words[0].rpartition("/")[2] != "tillage":
        raise SystemExit(f"{where}: {command!r} is neither a tillage command nor on the allow list")
    program = Path(sys.executable).parent / "tillage"
    done = subprocess.run([str(program), *words[1:]], capture_output=True, text=True)
    print(done.stdout)
    if done.returncode:
        raise SystemExit(f"{where}: {command!r} exits with {done.returncode}\n{done.stdout}\n{done.stderr}")


def run(path: Path) -> int:
    """Run all blocks of a file and return how many there were; `SystemExit` tells what failed and where."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    for block in blocks(path.read_text("utf-8")):
        where = f"{path.name}:{block.line}"
        count += 1
        if block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text)
            if block.language != "python":
                continue
        if block.language == "python":
            # Line numbers of a traceback are those of the Markdown file.
            exec(compile("\n" * (block.line - 1) + block.text, str(path), "exec"), namespace)
        elif block.language == "bash":
            for command in commands(block.text):
                run_command(command, where)
        elif block.language not in SHOWN_ONLY:
            raise SystemExit(
                f"{where}: a block in {block.language or 'no language'!r} is neither run nor output"
            )
    return count


def main(path: Path) -> int:
    """Run a file's blocks and say how many; the exit code."""
    try:
        print(f"{run(path)} blocks")
    except SystemExit as end:
        print(end, file=sys.stderr)
        return 1
    except Exception:  # noqa: BLE001 - shown whole
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    # Daft's thread sometimes aborts the interpreter at exit, after the work is done.
    os._exit(code)
