"""Where benchmarks leave their figures: JSON beside the table that they print. Standard library only.

`--out FILE` takes them elsewhere; `bench/results/*.local.json` is ignored by git.
"""

import json
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "results"


def add_out(parser: ArgumentParser, name: str) -> None:
    """The option `--out`."""
    parser.add_argument("--out", type=Path, default=FOLDER / f"{name}.json", metavar="FILE", help="JSON goes here")


def save(out: Path, found: Mapping[str, Any]) -> None:
    """Write the figures of one run."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", "utf-8")
