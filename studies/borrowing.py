"""Runs that another study has made already: equal settings, seed and held-out tasks leave equal rows."""

from collections.abc import Iterable
from pathlib import Path

import tables
from designs import Study
from settings import fingerprint


def borrow(study: Study, others: Iterable[Study], results: Path = tables.RESULTS) -> int:
    """Copy to `study` the rows that it lacks and one of `others` has; how many runs that were."""
    done = {(row["arm"], int(row["seed"])) for row in tables.read(study.name, "runs", results)}
    wanted = {
        (fingerprint(study, arm, seed), str(seed)): arm
        for arm in study.arms
        for seed in study.seeds
        if (arm, seed) not in done
    }
    count = 0
    for other in others:
        if other is study:
            continue
        found = {table: tables.read(other.name, table, results) for table in ("runs", "steps")}
        runs = {
            (row["arm"], row["seed"]): wanted.pop((row["settings"], row["seed"]))
            for row in found["runs"]
            if (row["settings"], row["seed"]) in wanted
        }
        if runs:
            count += len(runs)
            tables.add(study.name, {table: _renamed(found[table], runs) for table in ("steps", "runs")}, results)
    return count


def _renamed(rows: Iterable[tables.Row], runs: dict[tuple[str, str], str]) -> list[tables.Row]:
    return [{**row, "arm": runs[row["arm"], row["seed"]]} for row in rows if (row["arm"], row["seed"]) in runs]
