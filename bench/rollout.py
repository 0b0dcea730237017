"""Overhead of the rollout manager per environment step, recording included, against those who play episodes too.

    python bench/rollout.py [--episodes 64] [--steps 50] [--rounds 15] [--peers [FOLDER]] [--only NAME …]
        [--out bench/results/rollout.json]

A trivial environment answers with 1 kB texts; 64 episodes of 50 steps run at once, and a policy answers at once. Wall
time of a round (reset and all steps of all episodes) divided by the number of steps. The manager writes every episode
to `episodes.jsonl`; what peers keep is said in the table, none writes to a disk. Starting workers, servers and
environments is not counted, and nor is each contender's first round.

Every contender lives in a process of its own; rounds of all alternate, and while one plays the others wait. The median
and the best round are reported, and the environment's own time, measured alone, is taken off for `overhead`. A round
counts only if every episode was played to its end; one of the manager's also if none erred.

Wanted: at most 10 µs in-process and 40 µs through worker processes, by the median's overhead, and less than every peer
that is asynchronous or plays whole conversations. Missed, or with a contender broken, the status is 1.

`--peers` plays GEM, verifiers and OpenEnv as well. Each is installed, at a fixed version, into an environment of its
own in FOLDER, which stays and is used again; without FOLDER in a temporary one (1.5 GB, a minute or two). What is not
or cannot be installed is left out, with a word; so is Ray. `--only` plays the named ones, and the two to compare with.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from _results import add_out, save
from _rounds import Contender, ContenderFailed, ContenderRefused

ALONE = "environments alone"
SYNC = "Gymnasium SyncVectorEnv"
OURS, PEERS = "_rollout_ours.py", "_rollout_peers.py"


class Row(NamedTuple):
    """One contender."""

    label: str
    script: str
    name: str
    keeps: str
    """What is kept of a step."""
    limit_us: float | None = None
    package: str | None = None
    """Of a peer: what pip is asked for."""
    rival: bool = False
    """A peer that is asynchronous, or plays whole conversations."""


ROWS = (
    Row(ALONE, OURS, "bare", "nothing"),
    Row("manager, in-process", OURS, "inline", "all, on disk", 10.0),
    Row("manager, in-process, policy suspends", OURS, "inline+suspends", "all, on disk"),
    Row("manager, 2 worker processes", OURS, "processes", "all, on disk", 40.0),
    Row("manager, Ray, 2 actors", OURS, "ray", "all, on disk"),
    Row(SYNC, OURS, "gym-sync", "nothing"),
    Row("Gymnasium AsyncVectorEnv, a process each", OURS, "gym-async", "nothing", rival=True),
    Row("GEM SyncVectorEnv", PEERS, "gem-sync", "nothing", package="gem-llm==0.1.0"),
    Row("GEM AsyncVectorEnv, a thread each", PEERS, "gem-threads", "nothing", package="gem-llm==0.1.0", rival=True),
    Row("verifiers MultiTurnEnv", PEERS, "verifiers", "all, in memory", package="verifiers==0.3.1", rival=True),
    Row("OpenEnv server, `step_async`", PEERS, "openenv", "nothing", package="openenv==0.10.0", rival=True),
    Row("OpenEnv server, `step`", PEERS, "openenv-threads", "nothing", package="openenv==0.10.0", rival=True),
)


def installed(package: str, folder: Path) -> str:
    """The interpreter of a peer's own environment in `folder`, made if it is not there.

    Raises:
        ContenderRefused: it cannot be installed here.
    """
    home = folder / package.replace("==", "-")
    python = home / "bin" / "python"
    done = home / "installed"
    if not done.exists():
        print(f"installing {package} …", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        for command in (
            [sys.executable, "-m", "venv", str(home)],
            [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", package],
        ):
            tried = subprocess.run(command, capture_output=True, text=True)
            if tried.returncode:
                said = (tried.stderr or tried.stdout).strip().splitlines()
                raise ContenderRefused(f"cannot be installed: {said[-1] if said else tried.returncode}")
        done.touch()
    return str(python)


def started(row: Row, args: argparse.Namespace, folder: Path | None) -> Contender:
    """The contender of a row; raises `ContenderRefused` where there is none."""
    if row.package is None:
        return Contender(row.script, (row.name, args.episodes, args.steps))
    if folder is None:
        raise ContenderRefused("not asked for: give --peers")
    return Contender(row.script, (row.name, args.episodes, args.steps), installed(row.package, folder))


class Measured(NamedTuple):
    """What came of a run."""

    found: dict[Row, dict[str, Any]]
    """Figures of each row that was played to the end."""
    left_out: dict[str, str]
    """Rows that cannot be played here, and why."""
    broken: dict[str, str]
    """Rows that broke, and of what."""


def measure(args: argparse.Namespace, folder: Path | None) -> Measured:
    """Play all rows in turn. One that breaks is out, the others go on."""
    times: dict[Row, list[float]] = {}
    left_out: dict[str, str] = {}
    broken: dict[str, str] = {}
    contenders: dict[Row, Contender] = {}

    def failed(row: Row, error: ContenderFailed) -> None:
        times.pop(row, None)
        if isinstance(error, ContenderRefused):
            left_out[row.label] = str(error)
            return
        broken[row.label] = str(error)
        print(f"{row.label}: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)

    with ExitStack() as stack:
        for row in ROWS:
            if args.only and row.name not in (*args.only, "bare", "gym-sync"):
                continue
            try:
                contender = started(row, args, folder)
                stack.callback(contender.end)
                contender.round()
            except ContenderFailed as error:
                failed(row, error)
            else:
                contenders[row], times[row] = contender, []
        for _ in range(args.rounds):
            for row in list(times):
                try:
                    times[row].append(contenders[row].round() / args.episodes / args.steps * 1e6)
                except ContenderFailed as error:
                    failed(row, error)
        for row in list(times):
            try:
                contenders[row].close()
            except ContenderFailed as error:
                failed(row, error)
    found = {row: figures(row, taken, contenders[row].about) for row, taken in times.items()}
    return Measured(found, left_out, broken)


def figures(row: Row, taken: list[float], about: str) -> dict[str, Any]:
    """µs per step of one row."""
    median, best = statistics.median(taken), min(taken)
    return {"keeps": row.keeps, "median_us": round(median, 2), "best_us": round(best, 2), "version": about}


def report(measured: Measured) -> bool:
    """The table; completes the figures with overheads and ratios to Gymnasium's synchronous environments, as far as
    those could be played. Whether all that was asked was measured and met."""
    found, left_out, broken = measured
    medians = {row.label: figure["median_us"] for row, figure in found.items()}
    alone, sync, well = medians.get(ALONE), medians.get(SYNC), not broken
    print(f"{'':42}{'median µs':>10}{'best':>8}{'overhead':>10}{'× Gym Sync':>12}  keeps")
    for row, figure in found.items():
        median = figure["median_us"]
        overhead = figure["overhead_us"] = None if alone is None else round(median - alone, 2)
        times = figure["times_gym_sync"] = None if sync is None else round(median / sync, 2)
        verdict = ""
        if row.limit_us is not None:
            figure["limit_us"], figure["met"] = row.limit_us, overhead is not None and overhead <= row.limit_us
            well = well and figure["met"]
            verdict = f"  wanted ≤ {row.limit_us:g}: {'ok' if figure['met'] else 'MISSED'}"
        numbers = f"{median:10.2f}{figure['best_us']:8.2f}{number(overhead):>10}{number(times):>12}"
        about = f" ({figure['version']})" if figure["version"] else ""
        print(f"{row.label:42}{numbers}  {figure['keeps']}{about}{verdict}")
    for label, why in left_out.items():
        print(f"{label:42}{'left out: ' + why[:200]}")
    for label, why in broken.items():
        print(f"{label:42}{'BROKEN: ' + why[:200]}")
    rivals = {row.label: figure["median_us"] for row, figure in found.items() if row.rival}
    for label in ("manager, in-process", "manager, 2 worker processes"):
        if label in medians and rivals:
            ratios = {name: median / medians[label] for name, median in rivals.items()}
            ahead = min(ratios.values()) > 1
            well = well and ahead
            said = ", ".join(f"{name} {ratio:.1f}" for name, ratio in ratios.items())
            print(f"{label}: rivals take so many times as long: {said}; wanted > 1: {'ok' if ahead else 'MISSED'}")
    return well


def number(value: float | None) -> str:
    """With two decimals; a dash where there is none."""
    return "–" if value is None else f"{value:.2f}"


def main() -> int:
    """Print the table; exit status 1 where a contender broke or a wanted figure was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--peers", nargs="?", const="", metavar="FOLDER", help="play other projects too")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[row.name for row in ROWS])
    add_out(parser, "rollout")
    args = parser.parse_args()
    with ExitStack() as stack:
        folder = None
        if args.peers is not None:
            folder = Path(args.peers or stack.enter_context(tempfile.TemporaryDirectory(prefix="aem-bench-peers-")))
        measured = measure(args, folder)
    print(f"{args.episodes} episodes at once, {args.steps} steps, 1 kB observations, {args.rounds} rounds")
    well = report(measured)
    rows = {row.label: figure for row, figure in measured.found.items()}
    sizes = {"episodes": args.episodes, "steps": args.steps, "rounds": args.rounds}
    save(args.out, {**sizes, "rows": rows, "left_out": measured.left_out, "broken": measured.broken})
    return 0 if well else 1


if __name__ == "__main__":
    raise SystemExit(main())
