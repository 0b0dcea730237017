"""Analyses of AEM's theory on one run from the weak start: `python studies/analyse.py`, some minutes on one core.

One run with AEM is made, of a seed that no study uses, then `aem-train analyse` measures: relative surprisal against α
with the weights of the warm start and with the last ones, and entropy under sign masks from the warm start. Their CSVs
go to `results/analyses/`, where `report.py` finds them. Broken off, the same command goes on.
"""

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

import tables
from designs import PRIMARY
from job import opened
from rich.console import Console
from run import HERE, running
from theory import FOLDER

from trainer.analysis.entropy_mask import analyse_entropy_mask
from trainer.analysis.results import Found
from trainer.analysis.surprisal import analyse_surprisal
from trainer.checkpoints import latest_path
from trainer.loop import train
from trainer.progress import Reporter

SEED = 902
MASKED_STEPS = 30


def main() -> None:
    """Make the run, unless it is there, and the analyses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE / "work" / FOLDER, help="the run's folder goes here")
    work: Path = parser.parse_args().work
    console = Console()
    with running(work):
        run = trained(work / f"weak-{SEED}", console)
        start, last, reporter = run / "warmstart", latest_path(run / "checkpoints"), Reporter(console)
        kept("weak-start", lambda: analyse_surprisal(run, weights=start, reporter=reporter), console)
        kept("weak-start", lambda: analyse_entropy_mask(run, steps=MASKED_STEPS, reporter=reporter), console)
        kept("weak-trained", lambda: analyse_surprisal(run, weights=last, reporter=reporter), console)


def trained(folder: Path, console: Console) -> Path:
    """The folder of a finished run of the primary study's arm `aem`."""
    if not (folder / "summary.json").exists():
        with opened(PRIMARY.config("aem", SEED), folder, Reporter(console)) as session:
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
