"""Every code block of README.md and docs/ runs; the harness itself notices what does not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HARNESS = Path(__file__).with_name("blocks.py")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def run(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """A process a page: what a page registers or sets stays in it."""
    environment = {key: value for key, value in os.environ.items() if key != "TILLAGE_HOME"}
    return subprocess.run(
        [sys.executable, str(HARNESS), str(page)], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_blocks_run(page: Path, tmp_path: Path) -> None:
    if "tillage.train" in page.read_text("utf-8"):
        pytest.importorskip("torch")
    if page.name == "adapters.md":
        pytest.importorskip("trl")
        pytest.importorskip("peft")
    done = run(page, tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in link:
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize(
    ("markdown", "complaint"),
    [
        ("```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n", "line 6"),
        ("```bash\nrm -rf build\n```\n", "allow list"),
        ("```bash\ntillage report nowhere\n```\n", "exits with 2"),
        ("```bash\n# a comment\ntillage \\\n  nonsense\n```\n", "exits with 2"),
        ("```yaml\na: 1\n```\n", "neither run nor output"),
        ("```\nplain\n```\n", "neither run nor output"),
    ],
)
def test_what_does_not_run_is_noticed(markdown: str, complaint: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(markdown)
    done = run(page, tmp_path)
    assert done.returncode != 0
    assert complaint in done.stdout + done.stderr


def test_blocks_share_a_namespace_and_a_folder(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```yaml goal.yaml\nname: a\n```\n"
        "```python\nfrom pathlib import Path\nx = Path('goal.yaml').read_text()\n```\n"
        "1. a list\n\n   ```python\n   assert x == 'name: a\\n'\n   ```\n"
        "```bash\ntillage --version\nmake demo\n```\n```text\noutput\n```\n"
    )
    done = run(page, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "5 blocks" in done.stdout
