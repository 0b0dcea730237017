"""The README's picture: commands, and what they print where there is no terminal, as an SVG without web fonts.

python bench/_record.py docs/assets/quickstart.svg ["aem-eval run …" "aem-train run …"]

Runs the commands one after another in an empty folder (the default: minutes of training on one core). Lines are as
printed; of a longer run of progress lines the first and the last are kept and … stands for the rest.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from io import StringIO
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.text import Text

COMMANDS = (
    "aem-eval run aem/ALFWorld-v0 -m expert-search -n 24 --out runs/expert",
    "aem-train run alfworld-tiny --out runs/tiny",
)
WIDTH = 100
PROGRESS = re.compile(r"(?P<phase>[\w: ]+) \d+/\d+, |(evaluation|success on \w+) during (?P<during>\w+)")
SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
font: {char_height}px/{line_height}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace
}}
.{unique_id}-title {{ font: bold 18px sans-serif }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def shortened(output: str) -> Iterator[str]:
    """The lines of `output`, the middle of each unbroken run of more than three progress lines of a phase left out."""

    def phase(line: str) -> str | None:
        match = PROGRESS.match(line)
        return (match["phase"] or match["during"]) if match else None

    for name, group in groupby(output.splitlines(), key=phase):
        lines = list(group)
        yield from lines if name is None or len(lines) <= 3 else [lines[0], "…", lines[-1]]


def run(command: str, folder: str) -> str:
    """What `command` prints; `RuntimeError` with its errors if it fails."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": str(WIDTH),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(shlex.split(command), cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("commands", nargs="*", default=COMMANDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        console = Console(record=True, file=StringIO(), width=WIDTH, highlight=False)
        for number, command in enumerate(options.commands):
            console.print(Text(f"{chr(10) if number else ''}$ {command}", style="bold green"))
            for line in shortened(run(command, folder)):
                console.print(Text(line))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(console.export_svg(title="aem-suite", code_format=SVG, unique_id="terminal"))
    print(f"{options.out}: {options.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
