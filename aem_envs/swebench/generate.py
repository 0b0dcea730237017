"""Make embedded tasks: faults that few of a package's tests find, each with an issue text. Same seed, same tasks.

A fault becomes a task if between 1 and 20 tests fail by it, none of them at loading, within the time limit. Outcomes of
trials are kept in the cache, so that a run that was broken off goes on where it was.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import copytree
from typing import Any

from aem_envs.core import AemEnvError
from aem_envs.swebench.trials import RunTests, run_probed, run_suite
from envs_data.swebench.issues import Failure, issue_text, quotes
from envs_data.swebench.mutations import Mutation, is_change, mutations, shuffled
from envs_data.swebench.packages import Package, is_source
from envs_data.swebench.repository import commit_folder, git
from envs_data.swebench.sdists import fetch_sdist, unpack
from envs_data.swebench.toolbox import toolbox_key

MOST_FAILING = 20
PER_FUNCTION = 6
"""Faults tried of one function."""
_RULES = 2
"""Goes up when trials mean something else, so that kept outcomes are not taken up."""

Progress = Callable[[str, int, int], None]
"""(package, tasks made, tasks wanted)."""


class GenerationError(AemEnvError):
    """A package's own tests do not run, or too few faults could be found; says which."""


@dataclass(frozen=True)
class Baseline:
    """A package without a fault."""

    package: Package
    folder: Path
    """Its files; no repository."""
    tests: tuple[str, ...]
    """Tests that passed in both runs and can be told apart in a log."""
    candidates: tuple[tuple[str, Mutation], ...]
    """(path, fault) in the order in which they are tried."""


def baseline(package: Package, seed: int, run_tests: RunTests, cache: Path, work: Path) -> Baseline:
    """Unpack the package, run its tests twice, and list the faults in lines that tests run.

    Raises:
        GenerationError: its tests do not run to their end.
        DataError: its archive is not to be had.
    """
    folder, repository = work / "files", work / "baseline"
    unpack(package, fetch_sdist(package, cache), folder)
    copytree(folder, repository)
    commit = commit_folder(repository)
    runs = [run_suite(run_tests, package, repository, commit) for _ in range(2)]
    if not all(run.complete for run in runs):
        raise GenerationError(f"the tests of {package.name} {package.version} do not run to their end here")
    both = set(runs[0].passed()) & set(runs[1].passed())
    lines = run_probed(run_tests, package, repository, [], lines=True).lines
    candidates: list[tuple[str, Mutation]] = []
    for path in sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py")):
        if is_source(package, path):
            found = mutations((folder / path).read_bytes())
            candidates += [(path, one) for one in found if one.line in lines.get(path, ())]
    where = {id(one): path for path, one in candidates}
    order = shuffled([one for _, one in candidates], f"{seed} {package.name} {package.version}", PER_FUNCTION)
    return Baseline(package, folder, tuple(sorted(both)), tuple((where[id(one)], one) for one in order))


def generate(
    packages: Iterable[Package],
    per_package: int,
    seed: int,
    run_tests: RunTests,
    progress: Progress,
    *,
    cache: Path,
    workers: int = 2,
) -> Iterator[tuple[str, str]]:
    """(package, its file of the manifest), one after another.

    Raises:
        GenerationError: the tests of a package do not run, or no fault was found.
        DataError: an archive is not to be had.
    """
    for package in packages:
        with tempfile.TemporaryDirectory(prefix="aem-generate-") as work:
            base = baseline(package, seed, run_tests, cache, Path(work))
            rows = _rows(base, per_package, run_tests, progress, cache, workers)
        if not rows:
            raise GenerationError(f"no fault in {package.name} is found by its tests")
        yield package.name, manifest_text(package, base.tests, rows)


def manifest_text(package: Package, tests: Iterable[str], rows: Iterable[dict[str, Any]]) -> str:
    """A file of the manifest: JSON, one task per line."""
    head = {"package": package.name, "version": package.version, "sha256": package.sha256}
    start = json.dumps(head, indent=None)[:-1]
    names = json.dumps(list(tests), ensure_ascii=False)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return f'{start},\n"tests": {names},\n"tasks": [\n{lines}\n]}}\n'


def _rows(
    base: Baseline, wanted: int, run_tests: RunTests, progress: Progress, cache: Path, workers: int
) -> list[dict[str, Any]]:
    """The first `wanted` usable faults in the order of the candidates, however many are tried at once."""
    rows: list[dict[str, Any]] = []
    progress(base.package.name, 0, wanted)
    todo = iter(base.candidates)
    pool = ThreadPoolExecutor(workers)
    try:
        waiting: list[tuple[str, Mutation, Future[dict[str, Any] | None]]] = []
        while len(rows) < wanted:
            while len(waiting) < 4 * workers and (one := next(todo, None)):
                waiting.append((*one, pool.submit(_kept_trial, base, *one, run_tests, cache)))
            if not waiting:
                break
            path, mutation, trial = waiting.pop(0)
            if row := _row(base, path, mutation, trial.result()):
                rows.append({"id": f"{base.package.name}-{len(rows) + 1:04}", **row})
                progress(base.package.name, len(rows), wanted)
    finally:
        pool.shutdown(cancel_futures=True)
    return rows


def _kept_trial(
    base: Baseline, path: str, mutation: Mutation, run_tests: RunTests, cache: Path
) -> dict[str, Any] | None:
    """`_trial`, or what came of it last time."""
    what = [_RULES, base.package.sha256, toolbox_key(), path, mutation.start, mutation.end, mutation.text]
    key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
    file = cache / "trials" / f"{key}.json"
    if file.is_file():
        kept: dict[str, Any] | None = json.loads(file.read_text("utf-8"))
        return kept
    outcome = _trial(base, path, mutation, run_tests)
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(outcome), "utf-8")
    fresh.replace(file)
    return outcome


def _trial(base: Baseline, path: str, mutation: Mutation, run_tests: RunTests) -> dict[str, Any] | None:
    """What comes of a fault: repository, failing tests and how they fail; None if it makes no task."""
    package, source = base.package, (base.folder / path).read_bytes()
    if not is_change(mutation, source):
        return None
    with tempfile.TemporaryDirectory(prefix="aem-trial-") as work:
        repository = Path(work) / "repository"
        copytree(base.folder, repository)
        (repository / path).write_bytes(mutation.apply(source))
        commit = commit_folder(repository)
        run = run_suite(run_tests, package, repository, commit)
        passed = set(run.passed())
        failing = [test for test in base.tests if test not in passed]
        if not run.complete or not 1 <= len(failing) <= MOST_FAILING:
            return None
        files = sorted({test.partition("::")[0] for test in failing})
        failures = run_probed(run_tests, package, repository, files, lines=False).failures
        (repository / path).write_bytes(source)
        patch = git(repository, "diff", "--no-color", "--no-ext-diff").decode()
    return {
        "base_commit": commit,
        "FAIL_TO_PASS": failing,
        "patch": patch,
        "failures": [asdict(failure) for failure in failures if failure.test.split()[0] in failing],
    }


def _row(base: Baseline, path: str, mutation: Mutation, outcome: dict[str, Any] | None) -> dict[str, Any] | None:
    """The task in the manifest, without its id; None if the fault makes none."""
    issue = _issue(base, path, mutation, outcome) if outcome else None
    if outcome is None or issue is None:
        return None
    what = {"kind": mutation.kind, "function": mutation.function, "path": path}
    kept = {name: outcome[name] for name in ("base_commit", "FAIL_TO_PASS", "patch")}
    return {**what, **kept, "problem_statement": issue}


def _issue(base: Baseline, path: str, mutation: Mutation, outcome: dict[str, Any]) -> str | None:
    """The text made from the first failing test that does not give the fault away."""
    source = (base.folder / path).read_bytes()
    lines = (source, mutation.apply(source))
    given_away = {text.split(b"\n")[mutation.line - 1].decode() for text in lines}
    for failure in (Failure(**row) for row in outcome["failures"]):
        if not failure.code:
            continue
        text = issue_text(
            failure,
            package=base.package.name,
            version=base.package.version,
            function=mutation.function,
            failing=len(outcome["FAIL_TO_PASS"]),
            seed=f"{base.package.name} {mutation.start} {mutation.text}",
        )
        if not any(quotes(text, line) for line in given_away):
            return text
    return None
