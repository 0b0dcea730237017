"""Every fenced `python` and `bash` block of the pages below runs as pasted, in one empty folder a page, top to bottom.

A block under an HTML comment `<!-- not run: reason -->` is left out; the reasons allowed are listed here, so that none
slips in unseen.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- not run: (?P<reason>[^>]*?) -->\n)?```(?P<language>python|bash)\n(?P<code>.*?)```", re.S)
PAGES = ("README.md", "docs/webshop.md", "docs/swebench.md")
REASONS = {
    "installs",
    "needs a server",
    "needs the internet",
    "needs the official files",
    "needs Chromium",
    "minutes of training",
    "minutes of work",
    "needs a docker daemon",
    "needs your own sandbox",
    "needs a GPU",
    "opens a game for a person",
}


def blocks(page: str) -> list[tuple[str | None, str, str]]:
    return [(m["reason"], m["language"], m["code"]) for m in BLOCK.finditer((ROOT / page).read_text())]


@pytest.mark.parametrize("page", PAGES)
def test_only_known_reasons_leave_a_block_out(page: str) -> None:
    assert {reason for reason, _, _ in blocks(page) if reason} <= REASONS
    assert sum(reason is None for reason, _, _ in blocks(page)) >= 3


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_examples_run_as_pasted(page: str, tmp_path: Path, official_alfworld: Path) -> None:
    bin_folder = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "ALFWORLD_DATA": str(official_alfworld),
        "OMP_NUM_THREADS": "1",
    }
    for reason, language, code in blocks(page):
        if reason:
            continue
        command = [sys.executable, "-c", code] if language == "python" else ["bash", "-euo", "pipefail", "-c", code]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{code}\n--- stdout\n{done.stdout[-2000:]}\n--- stderr\n{done.stderr[-3000:]}"
