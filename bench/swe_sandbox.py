"""What a sandbox costs: milliseconds over a command, to open and close a room, and 64 episodes at once.

    python bench/swe_sandbox.py [--commands 300] [--rooms 40] [--episodes 64] [--out FILE]

The repository has 150 files. `true` is run in one room again and again; plain `bash -c true` and `bwrap … true`, a
process each, are measured in turns with it, so that neighbours on the machine disturb all alike. Then rooms are
opened and closed. Then many episodes at once, a thread each: 20 commands, a daemon left behind by each, a diff; an
episode is lost if anything in it fails, hung if it takes over ten minutes. Asked: at most 12 ms over a command, 60 ms
to open.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aem_envs.swebench.sandbox import Limits, Room, Sandbox, make_sandbox
from aem_envs.swebench.sandbox.levels import LEVELS, probe

Factory = Callable[[], Sandbox]
COMMAND_LIMIT_MS, START_LIMIT_MS, HUNG_S = 12.0, 60.0, 600.0
_BWRAP = "--unshare-pid --unshare-net --unshare-ipc --ro-bind / / --proc /proc --dev /dev bash -c true"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", type=int, default=300)
    parser.add_argument("--rooms", type=int, default=40)
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("bench/results/swe_sandbox.json"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of level rlimits
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        repository = prepared(Path(folder))
        for name, factory in kinds(repository).items():
            rows += commands(name, factory, options.commands)
            rows += rooms(name, factory, options.rooms)
            rows += episodes(name, factory, options.episodes)
    print(f"{'sandbox':16} {'what':34} {'median':>9} {'90 %':>9} {'least':>9}")
    for row in rows:
        figures = " ".join(f"{row[key]:9.2f}" for key in ("median", "p90", "least"))
        print(f"{row['sandbox']:16} {row['what']:34} {figures} {row['mark']}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"cores": os.cpu_count(), "rows": rows}, indent=2) + "\n", "utf-8")


def kinds(repository: Path) -> dict[str, Factory]:
    """Sandboxes of this machine by name; add a line here to measure another kind."""
    room, limits = Room(repository=repository), Limits(pids=64)
    found: dict[str, Factory] = {}
    for level in LEVELS:
        if level == "rlimits" or probe(level) is None:
            found[f"local {level}"] = lambda level=level: make_sandbox(  # type: ignore[misc]
                "local", room, limits, level=level, allow_unsafe=True
            )
    return found


def prepared(folder: Path, files: int = 150) -> Path:
    """A repository with one commit."""
    for number in range(files):
        (folder / f"module_{number}.py").write_text(f"def f(x):\n    return x + {number}\n" * 40, "utf-8")
    git = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@localhost"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"], ["gc", "-q"]):
        subprocess.run([*git, *command], check=True)
    return folder


def commands(name: str, factory: Factory, count: int) -> list[dict[str, Any]]:
    """`true` in an open room, and its peers in turns with it."""
    box = factory()
    box.start()
    peers: dict[str, Callable[[], Any]] = {"true": lambda: box.run("true", timeout=60)}
    peers["plain bash -c true"] = lambda: subprocess.run(["bash", "-c", "true"], check=True)
    if shutil.which("bwrap"):
        peers["bwrap … bash -c true, each anew"] = lambda: subprocess.run(["bwrap", *_BWRAP.split()], check=True)
    taken: dict[str, list[float]] = {what: [] for what in peers}
    for _ in range(count):
        for what, call in peers.items():
            taken[what].append(timed(call))
    box.close()
    return [row(name, f"{what}, ms", ms, COMMAND_LIMIT_MS if what == "true" else None) for what, ms in taken.items()]


def rooms(name: str, factory: Factory, count: int) -> list[dict[str, Any]]:
    """To open and to close a room, after a first one."""
    opening, closing = [], []
    for _ in range(count):
        box = factory()
        opening.append(timed(box.start))
        closing.append(timed(box.close))
    return [row(name, "start, ms", opening, START_LIMIT_MS), row(name, "close, ms", closing)]


def episodes(name: str, factory: Factory, count: int, turns: int = 20) -> list[dict[str, Any]]:
    """Many at once; seconds of each, and in `mark` what all took and how many were lost or hung."""
    taken: list[float] = []
    errors: list[str] = []

    def episode(number: int) -> None:
        begun, box = time.perf_counter(), factory()
        try:
            box.start()
            for turn in range(turns):
                result = box.run(f"echo {number} >> log.txt; wc -l < log.txt; (sleep 100 &)", timeout=300)
                if result.output != f"{turn + 1}\n" or result.exit_code != 0:
                    raise RuntimeError(f"turn {turn} gave {result}")
            if f"+{number}\n".encode() not in box.diff():
                raise RuntimeError("its diff misses what it wrote")
            taken.append(time.perf_counter() - begun)
        except Exception as error:
            errors.append(f"episode {number}: {error}")
        finally:
            box.close()

    threads = [threading.Thread(target=episode, args=(number,), daemon=True) for number in range(count)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, begun + HUNG_S - time.perf_counter()))
    wall, hung = time.perf_counter() - begun, sum(thread.is_alive() for thread in threads)
    print(*errors, sep="\n", end="\n" if errors else "")
    line = row(name, f"{count} episodes at once, s each", [1000 * seconds for seconds in taken] or [0.0])
    figures = {key: round(line[key] / 1000, 3) for key in ("median", "p90", "least")}
    mark = f"wall {wall:.1f} s, lost {len(errors)}, hung {hung}"
    return [{**line, **figures, "wall_s": round(wall, 2), "lost": len(errors), "hung": hung, "mark": mark}]


def timed(call: Callable[[], Any]) -> float:
    """Milliseconds a call took."""
    begun = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - begun)


def row(name: str, what: str, ms: list[float], limit: float | None = None) -> dict[str, Any]:
    """One line of the table."""
    median, high = statistics.median(ms), sorted(ms)[int(0.9 * (len(ms) - 1))]
    mark = "" if limit is None else "ok" if median <= limit else f"> {limit:g}"
    figures = {"median": round(median, 3), "p90": round(high, 3), "least": round(min(ms), 3)}
    return {"sandbox": name, "what": what, **figures, "calls": len(ms), "mark": mark}


if __name__ == "__main__":
    main()
