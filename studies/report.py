"""Report studies: figures from the raw results in `studies/results`, wherever they are shown.

    python studies/report.py                  all that has results
    python studies/report.py primary          one study
    python studies/report.py --check          say what is not as the results have it; exit status 1 if anything is not

Writes `results/<study>/contrasts.json`, figures in `docs/assets/study/`, and the tables of `docs/study.md` between
`<!-- study:NAME:begin -->` and `<!-- study:NAME:end -->` (NAME: a study that compares arms; `screens`, those that
compare none; `analyses`, see `theory.py`).
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tables
from checks import check
from designs import STUDIES, Study
from figures import figures, in_points
from inference import Estimate
from inside import inside
from outcomes import Contrast, Endpoint, MixedResults, by_arm, contrasts, corrected, endpoints, estimate
from pages import PageError, detectable_text, p_text, replaced, study_text
from rich.console import Console
from rich.table import Table
from screens import FIGURE, screens
from tables import Row
from theory import FOLDER, analyses

from aem_agent.run_folder import write_atomically

DOCS = Path(__file__).resolve().parents[1] / "docs"


@dataclass(frozen=True)
class Reported:
    """All that is said of a study."""

    study: Study
    arms: Mapping[str, Mapping[int, Row]]
    steps: Sequence[Row]
    """Of the runs in `arms` alone."""
    means: Mapping[Endpoint, Mapping[str, Estimate]]
    contrasts: Mapping[Endpoint, Sequence[Contrast]]


def main() -> int:
    """The exit status: 0, or 1 when something is not as the results have it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", metavar="STUDY", help="default: all that have results")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if anything would change")
    parser.add_argument("--results", type=Path, default=tables.RESULTS, help="raw results (default: %(default)s)")
    parser.add_argument(
        "--docs", type=Path, default=DOCS, help="holds study.md and assets/study (default: %(default)s)"
    )
    args = parser.parse_args()
    unknown = set(args.studies) - set(STUDIES)
    if unknown:
        parser.error(f"unknown study {', '.join(sorted(unknown))}; known: {', '.join(STUDIES)}")
    try:
        found = reported([STUDIES[name] for name in args.studies or STUDIES], args.results)
        files = contents(found, args.results, args.docs)
    except (MixedResults, PageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    stale = [] if args.studies else sorted(set((args.docs / "assets" / "study").glob("*.svg")) - set(files))
    if args.check:
        return _check(files, stale)
    for one in found:
        Console().print(_table(one))
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    for path in stale:
        path.unlink()
    return 0


def reported(studies: Sequence[Study], results: Path) -> list[Reported]:
    """Those of `studies` that compare, and have results; corrections count all of a family, reported or not.

    Raises:
        MixedResults: rows that cannot stand in one table.
    """
    families = {family(study) for study in studies}
    whole: dict[str, Reported] = {}
    for study in STUDIES.values():
        if study.contrasts and family(study) in families:
            arms = by_arm(study, tables.read(study.name, "runs", results))
            steps = tables.read(study.name, "steps", results)
            check(study, arms, steps)
            steps = [row for row in steps if int(row["seed"]) in arms.get(row["arm"], {})]
            ends = endpoints(study)
            means = {e: {a: m for a, rows in arms.items() if (m := estimate(rows, e)) is not None} for e in ends}
            whole[study.name] = Reported(study, arms, steps, means, {e: contrasts(study, arms, e) for e in ends})
    done = [_corrected(one, list(whole.values())) for one in whole.values() if one.study in studies]
    return [one for one in done if any(one.arms.values())]


def family(study: Study) -> str:
    """What is corrected together."""
    return study.family or study.name


def _corrected(one: Reported, whole: Sequence[Reported]) -> Reported:
    """Its contrasts corrected with those of its family, endpoint by endpoint."""
    found: dict[Endpoint, Sequence[Contrast]] = {}
    for endpoint, own in one.contrasts.items():
        kin = [r for r in whole if r is not one and family(r.study) == family(one.study)]
        others = [c for r in kin for e, of in r.contrasts.items() if e.column == endpoint.column for c in of]
        found[endpoint] = corrected([*own, *others])[: len(own)]
    return replace(one, contrasts=found)


def contents(found: Sequence[Reported], results: Path, docs: Path) -> dict[Path, str]:
    """Every file that is written, and its text.

    Raises:
        PageError: the page has no place for a study that has results.
    """
    files: dict[Path, str] = {}
    blocks, drawn = _others(results)
    for one in found:
        name = one.study.name
        rows = [c.to_json() for of in one.contrasts.values() for c in of]
        files[results / name / "contrasts.json"] = json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
        svgs = figures(one.study, one.steps, one.means, one.contrasts)
        drawn |= {f"{name}-{figure}": svg for figure, svg in svgs.items()}
        blocks[name] = study_text(one.study, one.arms, one.means, one.contrasts, inside(one.study, one.steps), svgs)
    files |= {docs / "assets" / "study" / f"{name}.svg": svg for name, svg in drawn.items()}
    if blocks:
        page = (docs / "study.md").read_text(encoding="utf-8")
        for name, block in blocks.items():
            page = replaced(page, name, block)
        files[docs / "study.md"] = page
    return files


def _others(results: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Blocks of the page and figures, by name, of what is no comparison."""
    found = {FOLDER: analyses(results), FIGURE: screens([s for s in STUDIES.values() if not s.contrasts], results)}
    blocks = {name: text for name, (text, _) in found.items() if text}
    return blocks, {name: svg for _, drawn in found.values() for name, svg in drawn.items()}


def _check(files: Mapping[Path, str], stale: Sequence[Path]) -> int:
    wrong = [p for p, text in files.items() if not p.exists() or p.read_text(encoding="utf-8") != text]
    for path in wrong:
        print(f"{path} is not what the results give", file=sys.stderr)
    for path in stale:
        print(f"{path} belongs to no results", file=sys.stderr)
    if wrong or stale:
        print("run `python studies/report.py`", file=sys.stderr)
    return 1 if wrong or stale else 0


def _table(one: Reported) -> Table:
    total = len(one.study.arms) * len(one.study.seeds)
    table = Table(title=f"{one.study.name}: {sum(map(len, one.arms.values()))} of {total} runs; points, 95 % intervals")
    for head in ("contrast", "n", "difference", "p", "corrected", "detectable"):
        table.add_column(head, justify="left" if head == "contrast" else "right", no_wrap=head != "contrast")
    for endpoint, found in one.contrasts.items():
        table.add_row(f"[bold]{endpoint.name}[/]")
        for c in found:
            difference = "–" if c.difference is None else in_points(c.difference, signed=True)
            cells = (difference, p_text(c.p), p_text(c.p_corrected), detectable_text(c))
            table.add_row(f"{c.arm} − {c.baseline}", str(len(c.seeds)), *cells)
        table.add_section()
    return table


if __name__ == "__main__":
    sys.exit(main())
