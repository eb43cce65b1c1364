"""The MCP server, asked by a real client over stdio."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp")

from mcp import Client, StdioServerParameters

TOOLS = "profile plan check sample_run run runs accounts rows diff why ask report"


def text(result: Any) -> str:
    return " ".join(part.text for part in result.content)


async def session(folder: Path) -> None:
    command = [sys.executable, "-c", "from tillage.cli.main import entry; entry()", "mcp"]
    parameters = StdioServerParameters(command=command[0], args=command[1:], cwd=folder)
    async with Client(parameters) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == set(TOOLS.split())

        async def call(name: str, **arguments: Any) -> dict[str, Any]:
            result = await client.call_tool(name, arguments)
            assert not result.is_error, text(result)
            return result.structured_content

        assert (await call("profile", data=["raw"], sample=50))["documents"] == 50
        planned = await call("plan", goal="goal.yaml", out="planned.yaml", top="contract")
        assert (folder / "planned.yaml").exists()
        assert planned["candidates"]
        assert (await call("check", recipe="recipe.yaml"))["holds"]
        sampled = await call("sample_run", recipe="recipe.yaml", rows=40)
        assert sampled["accounts"][0]["rows_in"] == 40
        done = await call("run", recipe="recipe.yaml")
        books = (await call("accounts", run=done["run"]))["accounts"]
        assert books == done["accounts"]
        (row,) = (await call("rows", run=done["run"], step="long", count=1))["rows"]
        assert row["text"].startswith("too short")
        facts = (await call("why", id=row["id"], run=done["run"]))["facts"]
        assert [fact["step"] for fact in facts if fact["outcome"] == "dropped"] == ["long"]
        asked = await call("ask", run=done["run"], question=f"why was {row['id']} dropped?")
        assert asked["rows"] == [row["id"]]
        compared = await call("diff", a=sampled["run"], b=done["run"])
        assert compared["recipe"] == []
        assert Path((await call("report", run=done["run"]))["report"]).exists()
        assert len((await call("runs"))["runs"]) >= 2
        for name, arguments in (
            ("check", {"recipe": "../../etc/passwd"}),
            ("profile", {"data": ["/etc"]}),
            ("plan", {"goal": "goal.yaml", "out": "/tmp/out.yaml"}),
        ):
            refused = await client.call_tool(name, arguments)
            assert refused.is_error
            assert "outside of the served folder" in text(refused)
        wrong = await client.call_tool("why", {"id": "ffffffff"})
        assert wrong.is_error
        assert "no row" in text(wrong)


def test_a_client_does_the_whole_round(fresh: Path) -> None:
    (fresh / "link").symlink_to("/etc")
    asyncio.run(asyncio.wait_for(session(fresh), 60))
