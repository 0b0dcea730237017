"""Whether raw results are those of the studies as they are designed today: whole, of these settings, truly paired."""

from collections import Counter
from collections.abc import Mapping, Sequence

from designs import Study
from outcomes import MixedResults
from settings import fingerprint
from tables import Row


def check(study: Study, arms: Mapping[str, Mapping[int, Row]], steps: Sequence[Row]) -> None:
    """Look at `arms`, runs by arm and seed, and at the rows of their RL steps.

    Raises:
        MixedResults: a run of other settings than the design has today, without all of its steps, or whose seed has
            an arm that began from other weights.
    """
    rows = Counter((row["arm"], int(row["seed"])) for row in steps)
    starts: dict[int, tuple[str, str]] = {}
    for arm, runs in arms.items():
        settings = fingerprint(study, arm, study.seeds[0])  # the same for all seeds
        for seed, run in runs.items():
            name = f"{study.name} {arm} {seed}"
            if run["settings"] != settings:
                raise MixedResults(f"{name}: of other settings than designs.py has: move its rows away, run it again")
            if rows[arm, seed] != int(run["steps"]):
                raise MixedResults(
                    f"{name}: {rows[arm, seed]} rows in steps.csv of {run['steps']}: remove its rows, run it again"
                )
            other, start = starts.setdefault(seed, (arm, run["start"]))
            if run["start"] != start:
                raise MixedResults(
                    f"{name}: began from other weights than {other}: remove the rows of this seed, run it again"
                )
