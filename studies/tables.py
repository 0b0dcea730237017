"""Raw results: one CSV of runs and one of their RL steps for each study, always sorted, whoever ran what when.

Times and machines are left out on purpose: equal runs leave equal bytes.
"""

import csv
import fcntl
import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from aem_agent.run_folder import write_atomically

RESULTS = Path(__file__).resolve().parent / "results"

Row = dict[str, str]


def read(study: str, table: str, results: Path = RESULTS) -> list[Row]:
    """Rows of `results/<study>/<table>.csv`; none if there is no such file."""
    path = results / study / f"{table}.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def add(study: str, tables: Mapping[str, Iterable[Mapping[str, object]]], results: Path = RESULTS) -> None:
    """Put a run's rows in their tables, in this order, in place of what the same arm and seed had there.

    Whoever reads in the other order, `runs` first, finds the steps of every run: `runs` is to be the last one here.
    """
    with _locked(results / study):
        for table, new in tables.items():
            rows = [{key: _text(value) for key, value in row.items()} for row in new]
            replaced = {(row["arm"], row["seed"]) for row in rows}
            kept = [row for row in read(study, table, results) if (row["arm"], row["seed"]) not in replaced]
            _write(results / study / f"{table}.csv", sorted([*kept, *rows], key=_place))


def _place(row: Row) -> tuple[str, int, int]:
    return row["arm"], int(row["seed"]), int(row.get("step", 0))


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _write(path: Path, rows: list[Row]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Several jobs end at once."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
