"""`tillage`: finds the verb, runs it, and turns what happened into an exit code.

0 done, 1 the work failed, 2 the user's input is wrong, 130 interrupted. Verbs live in `tillage.cli.verbs` and
are imported when used: `tillage --help` loads neither Daft nor torch.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module

from cyclopts import App, CycloptsError

from tillage import __version__
from tillage.cli.answer import DONE, FAILED, INTERRUPTED, PIPE_CLOSED, WRONG_INPUT, Answer, show
from tillage.cli.lean import uncollected
from tillage.core.errors import UserError, WorkFailed, nearest

VERBS = {
    "demo": "Do the main job from end to end on text that this machine already has.",
    "profile": "Say what raw data holds: fields, domains, languages, lengths, duplicates, quality.",
    "plan": "Propose recipes for a goal from the evidence, and write the best supported one.",
    "check": "Check a recipe's contract; with --sample, run it on a sample and balance its accounts.",
    "run": "Run a recipe in full and commit a dataset version; a killed run goes on.",
    "tokenize": "Write a token store from a dataset version.",
    "train": "Train a model on a token store with data policies.",
    "loop": "Plan, prepare, train, feed back and revise, in rounds, for a goal.",
    "report": "Write one self-contained HTML page from a run's event log.",
    "contamination": "Name the evaluation items that a run's rows overlap with, and the rows.",
    "why": "Tell a row's whole life: origin, measurements, decisions, training.",
    "ask": "Answer a question about a run from its records, with row ids.",
    "undo": "Take the last change of a recipe back.",
    "memory": "List, export or forget what earlier plans measured.",
    "ops": "List the operators, or describe one; learn, write and promote new ones.",
    "runs": "List the runs of the workspace.",
    "diff": "Compare two dataset versions or two runs: rows, accounts, recipes, distributions.",
    "datasets": "List the datasets of the workspace, or the versions of one.",
    "tag": "Give a dataset version a name.",
    "rollback": "Make a dataset's newest version equal to an old one.",
    "export": "Write a dataset version as Parquet, JSON lines or a Hugging Face folder.",
    "mcp": "Serve the workspace to coding agents over the Model Context Protocol.",
    "clean": "Free the disk of what no dataset version needs.",
}
EXTRAS = {
    "torch": "train",
    "tokenizers": "train",
    "pydantic_ai": "agent",
    "openai": "agent",
    "pydantic_monty": "agent",
    "stamina": "agent",
    "xllamacpp": "local-llm",
    "mcp": "mcp",
    "ray": "ray",
    "transformers": "hf",
}


def make_app() -> App:
    """The cyclopts application; verbs are named by import path and loaded on use."""
    app = App(
        name="tillage",
        version=__version__,
        help="Prepares the data that language models train on, and trains with it, as one measured loop.",
        help_format="plaintext",
        exit_on_error=False,
        print_error=False,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for number, (verb, text) in enumerate(VERBS.items()):
        app.command(f"tillage.cli.verbs.{verb}:{verb}", name=verb, help=text, sort_key=number)
    return app


def main(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code; messages are printed here and nowhere else."""
    as_json = "--json" in argv
    try:
        _check_verb(argv)
        answer = make_app()(list(argv))
        if isinstance(answer, Answer):
            show(answer, as_json)
            return answer.code
        return DONE
    except WorkFailed as error:
        return _complain(error, FAILED, as_json)
    except UserError as error:
        return _complain(error, WRONG_INPUT, as_json)
    except CycloptsError as error:
        return _complain(UserError(str(error), hint="see tillage --help"), WRONG_INPUT, as_json)
    except KeyboardInterrupt:
        print("interrupted; the same command again goes on from what is finished", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`tillage ops | head`): nothing can be said to it, nor need be.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except ImportError as error:
        extra = _missing_extra(error)
        if extra is None:
            return _fault(error, as_json)
        return _complain(extra, WRONG_INPUT, as_json)
    except Exception as error:  # noqa: BLE001 - the last boundary: shown whole, exit code 1
        return _fault(error, as_json)


def _check_verb(argv: Sequence[str]) -> None:
    """Before cyclopts, which would import every verb to look for one that is like a wrong name."""
    if argv and not argv[0].startswith("-") and argv[0] not in VERBS:
        raise UserError(f"unknown command {argv[0]!r}", hint=nearest(argv[0], VERBS))


def entry() -> None:
    """The console script. Leaves by `os._exit`: engine threads may abort a finished interpreter."""
    argv = sys.argv[1:]
    # When numpy is loaded, the threads of its BLAS wait for work in a busy loop, beside our imports.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    if argv and argv[0] in VERBS:
        with uncollected(), suppress(ImportError):  # `main` meets it again, and names it
            if argv[0] == "run":
                import_module("tillage.cli.ahead").read_ahead(argv[1:])
            import_module(f"tillage.cli.verbs.{argv[0]}")
    code = main(argv)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            code = code or PIPE_CLOSED
    os._exit(code)


def _complain(error: UserError, code: int, as_json: bool) -> int:
    if as_json:
        known = {"where": error.where, "got": error.got, "expected": error.expected, "hint": error.hint}
        fields = {name: str(value) for name, value in known.items() if value is not None}
        print(json.dumps({"error": error.what, **fields, "exit": code}, ensure_ascii=False))
    else:
        print("\n".join(["error: " + error.lines()[0], *error.lines()[1:]]), file=sys.stderr)
    return code


def _fault(error: Exception, as_json: bool) -> int:
    """Not foreseen: the traceback goes to standard error, so that it can be reported."""
    traceback.print_exception(error)
    if as_json:
        print(json.dumps({"error": f"{type(error).__name__}: {error}", "exit": FAILED}, ensure_ascii=False))
    return FAILED


def _causes(error: BaseException) -> Iterator[BaseException]:
    step: BaseException | None = error
    while step is not None:
        yield step
        step = step.__cause__


def _missing_extra(error: ImportError) -> UserError | None:
    """What to install, if the import failed for want of an optional dependency."""
    for cause in _causes(error):
        if isinstance(cause, UserError):
            return cause
        if isinstance(cause, ModuleNotFoundError) and cause.name is not None:
            extra = EXTRAS.get(cause.name.partition(".")[0])
            if extra is not None:
                return UserError(
                    f"this command needs the package {cause.name.partition('.')[0]!r}",
                    hint=f"pip install 'tillage[{extra}]'",
                )
    return None
