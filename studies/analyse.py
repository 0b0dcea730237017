"""Analyses of AEM's theory on single runs: `python studies/analyse.py`, some minutes a run on one core.

One run with AEM is made from each start, of a seed that no study uses, then `aem-train analyse` measures: relative
surprisal against α with the weights of the warm start and with the last ones, and, from the weak start, entropy under
sign masks. Their CSVs go to `results/analyses/`, where `report.py` finds them. Broken off, the same command goes on.
"""

import argparse
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import tables
from job import opened
from rich.console import Console
from run import HERE, running
from starts import STARTS
from theory import FOLDER

from trainer import algorithms
from trainer.analysis.entropy_mask import analyse_entropy_mask
from trainer.analysis.results import Found
from trainer.analysis.surprisal import analyse_surprisal
from trainer.checkpoints import latest_path
from trainer.loop import train
from trainer.progress import Reporter

SEED = 902
MASKED_STEPS = 30
FROM = ("weak", "thoughts", "thoughts-strong")
"""Starts: of short responses, and of long ones."""


def main() -> None:
    """Make the runs, unless they are there, and the analyses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("starts", nargs="*", metavar="START", help=f"{', '.join(FROM)}; default: all")
    parser.add_argument("--work", type=Path, default=HERE / "work" / FOLDER, help="the runs' folders go here")
    args = parser.parse_args()
    if unknown := set(args.starts) - set(FROM):
        parser.error(f"no start {', '.join(sorted(unknown))}; there are {', '.join(FROM)}")
    console = Console()
    with running(args.work):
        for start in args.starts or FROM:
            analyses(start, trained(start, args.work / f"{start}-{SEED}", console), console)


def analyses(start: str, run: Path, console: Console) -> None:
    """All that is measured of the run from one start."""
    first, last, reporter = run / "warmstart", latest_path(run / "checkpoints"), Reporter(console)
    kept(f"{start}-start", lambda: analyse_surprisal(run, weights=first, reporter=reporter), console)
    if start == "weak":
        kept("weak-start", lambda: analyse_entropy_mask(run, steps=MASKED_STEPS, reporter=reporter), console)
    kept(f"{start}-trained", lambda: analyse_surprisal(run, weights=last, reporter=reporter), console)


def trained(start: str, folder: Path, console: Console) -> Path:
    """The folder of a finished run of GRPO with AEM."""
    if not (folder / "summary.json").exists():
        config = algorithms.use(replace(STARTS[start], seed=SEED), "grpo", ())
        with opened(config, folder, Reporter(console)) as session:
            train(session)
    return folder


def kept(name: str, analysis: Callable[[], Found], console: Console) -> None:
    """Analyse, show what was found, and keep the table."""
    found = analysis()
    console.print("\n".join(found.lines), markup=False)
    for path in found.files:
        if path.suffix == ".csv":
            folder = tables.RESULTS / FOLDER / name
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / path.name)


if __name__ == "__main__":
    main()
