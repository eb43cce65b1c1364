"""`tillage mcp`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tillage.cli.answer import Answer, Common
from tillage.cli.mcp_tools import server


def mcp(*, root: Path = Path(), common: Common = Common()) -> Answer:
    """Serve the workspace to coding agents over the Model Context Protocol, on standard input and output.

    Tools: profile, plan, check, sample_run, run, runs, accounts, rows, diff, why, ask, report.

    Args:
        root: the folder that tools may read; what lies outside is refused.
    """
    made = server(root.absolute(), common.space)
    made.run("stdio")
    sys.stdout.flush()
    return Answer({"served": os.fspath(root)}, [])
