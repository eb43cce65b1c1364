"""The process that serves a local model: `python -m tillage.llm.serve MODEL.gguf CONTEXT THREADS`.

Prints its address as the one line of standard output, and ends when its standard input is closed: so it
cannot outlive the process that started it.
"""

# pyright: reportAttributeAccessIssue=false, reportMissingModuleSource=false, reportMissingImports=false
# The package ships no types.
from __future__ import annotations

import os
import sys

import xllamacpp


def serve(model: str, context: int, threads: int) -> None:
    """Serve `model` on a free port of loopback until standard input ends."""
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = context
    params.n_parallel = 1
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.ui = False
    params.warmup = False
    params.verbosity = -1
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)  # noqa: T201 - the answer that the starter waits for
    sys.stdin.read()
    sys.stdout.flush()
    # The server's threads do not end by themselves.
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
