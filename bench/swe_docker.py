"""Milliseconds of the docker sandbox: start, a command, put, get, diff, snapshot, restore, close; making an image.

    python bench/swe_docker.py [--rounds 20] [--files 200] [--many 16] [--out FILE]

Needs a docker daemon (`. .ci/docker.sh` starts one). The repository has `--files` Python files of about 4 kB. The
command is `true`, so that what is measured is what a sandbox adds. Asked for: at most 80 ms per command, 600 ms per
start. `many` starts so many sandboxes at once, each from a thread of its own, and runs one command in each.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aem_envs.swebench.base_image import base_image
from aem_envs.swebench.images import image_from_folder
from aem_envs.swebench.rooms import swebench_cache
from aem_envs.swebench.sandbox import Room
from aem_envs.swebench.sandbox.docker import DockerSandbox
from aem_envs.swebench.sandbox.docker_exec import client

LIMITS_MS = {"run": 80.0, "start": 600.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--many", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("bench/results/swe_docker.json"))
    options = parser.parse_args()
    base = base_image(swebench_cache(), progress=print)
    with tempfile.TemporaryDirectory() as place:
        folder = repository(Path(place), options.files)
        key = f"bench {os.getpid()}"
        made, image = timed(lambda: image_from_folder(base, folder, key=key))
        again, _ = timed(lambda: image_from_folder(base, folder, key=key))
    try:
        series = {"image, made": [made], "image, there already": [again], **rounds(image, options.rounds)}
        rows = [row(name, seconds) for name, seconds in series.items()] + [many(image, options.many)]
    finally:
        client().remove_image(image, force=True)
    print(f"{'what':22} {'median ms':>10} {'90 % ms':>9} {'calls':>6}")
    for one in rows:
        limit = LIMITS_MS.get(one["what"])
        mark = "" if limit is None else "ok" if one["ok"] else f"> {limit:g}"
        print(f"{one['what']:22} {one['median_ms']:10.1f} {one['p90_ms']:9.1f} {one['calls']:6} {mark}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")


def repository(folder: Path, files: int) -> Path:
    """A git repository of one commit."""
    for number in range(files):
        path = folder / f"pkg{number % 10}" / f"module{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"VALUE = {number}\n" * 300, "utf-8")
    who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "one"]):
        subprocess.run(["git", "-C", str(folder), *who, *command], check=True)
    return folder


def rounds(image: str, number: int) -> dict[str, list[float]]:
    """Seconds of each call, by name."""
    series: dict[str, list[float]] = {}

    def note(name: str, call: Callable[[], Any]) -> Any:
        seconds, result = timed(call)
        series.setdefault(name, []).append(seconds)
        return result

    for _ in range(number):
        sandbox = DockerSandbox(Room(image=image))
        note("start", sandbox.start)
        for _ in range(5):
            note("run", lambda: sandbox.run("true", timeout=60))  # noqa: B023
        note("put", lambda: sandbox.put("pkg0/new.py", b"x = 1\n" * 1000))  # noqa: B023
        note("get", lambda: sandbox.get("pkg0/new.py"))  # noqa: B023
        note("diff", sandbox.diff)
        snapshot = note("snapshot", sandbox.snapshot)
        note("restore", lambda: sandbox.restore(snapshot))  # noqa: B023
        note("close", sandbox.close)
    return series


def many(image: str, number: int) -> dict[str, Any]:
    """Sandboxes at once: seconds from the first start to the last close, divided by their number."""

    def one(_: int) -> int | None:
        sandbox = DockerSandbox(Room(image=image))
        sandbox.start()
        try:
            return sandbox.run("true", timeout=60).exit_code
        finally:
            sandbox.close()

    with ThreadPoolExecutor(number) as pool:
        seconds, codes = timed(lambda: list(pool.map(one, range(number))))
    assert codes == [0] * number
    return row(f"each of {number} at once", [seconds / number])


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds a call took, and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def row(what: str, seconds: list[float]) -> dict[str, Any]:
    """One line of the table."""
    median = 1e3 * statistics.median(seconds)
    high = 1e3 * (statistics.quantiles(seconds, n=10)[-1] if len(seconds) > 1 else seconds[0])
    figures = {"what": what, "median_ms": round(median, 1), "p90_ms": round(high, 1), "calls": len(seconds)}
    return {**figures, "ok": median <= LIMITS_MS.get(what, float("inf"))}


if __name__ == "__main__":
    main()
