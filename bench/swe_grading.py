"""Seconds that grading and playing embedded tasks take, beside the bare tests and `swebench eval`.

    python bench/swe_grading.py [--tasks 8] [--episodes 64] [--harness 2] [--out FILE]

Per task, in turns: the evaluation script in a plain process on a plain copy of the mended repository (the bare test
run), our grading of the gold patch in the local sandbox and, where a daemon is reachable, in docker. Overhead is
grading less the bare run; asked for: at most 0.3 s. `reset` is the environment's, after the first. Then `--episodes`
experts at once on two cores, none lost or hung. Then `swebench eval` on the same rows, where docker is.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym

import aem_envs  # noqa: F401  # registers
from aem_agent.policies import ExpertPolicy
from aem_agent.rollout import RolloutManager
from aem_agent.types import TaskRef
from aem_envs.swebench.grading import evaluation_script, grade
from aem_envs.swebench.rooms import RoomMaker
from aem_envs.swebench.sandbox import Limits, SandboxMissingError
from aem_envs.swebench.sources import EmbeddedTasks
from aem_envs.swebench.task import Task
from envs_data.swebench.rows import write_jsonl

ENV = "aem/SWEBench-v0"
OVERHEAD_S, RESET_S = 0.3, 0.06


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--harness", type=int, default=2, help="tasks for `swebench eval`: some 20 s each")
    parser.add_argument("--out", type=Path, default=Path("bench/results/swe_grading.json"))
    options = parser.parse_args()
    source = EmbeddedTasks()
    tasks = [source.find(task_id) for task_id in source.ids("dev")[: options.tasks]]
    kinds = available(tasks[0])
    rows = gradings(tasks, kinds) + [resets(kind, tasks) for kind in kinds]
    rows.append(episodes(source, options.episodes))
    if "docker" in kinds and options.harness:
        rows.append(harness(tasks[: options.harness]))
    print(f"{'what':44} {'median s':>9} {'90 % s':>9} {'n':>4}")
    for one in rows:
        print(f"{one['what']:44} {one['median_s']:9.3f} {one['p90_s']:9.3f} {one['n']:4} {one['mark']}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"cores": os.cpu_count(), "rows": rows}, indent=2) + "\n", "utf-8")


def available(task: Task) -> dict[str, RoomMaker]:
    """The sandboxes of this machine."""
    found = {}
    for kind in ("local", "docker"):
        try:
            maker = RoomMaker("embedded", kind, Limits())
            box = maker.sandbox(task)
            box.start()
            box.close()
            found[kind] = maker
        except SandboxMissingError as error:
            print(f"no {kind}: {error}")
    return found


def gradings(tasks: list[Task], kinds: dict[str, RoomMaker]) -> list[dict[str, Any]]:
    """Bare runs and gradings, in turns."""
    bare: list[float] = []
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    for task in tasks[:1]:  # what is loaded and prepared once
        for maker in kinds.values():
            judged(task, maker)
    for task in tasks:
        for maker in kinds.values():
            maker.room(task)
        bare.append(bare_run(task, kinds["local"]))
        for kind, maker in kinds.items():
            taken[kind].append(timed(lambda task=task, maker=maker: judged(task, maker)))  # type: ignore[misc]
    rows = [row("bare test run, plain process", bare)]
    for kind, seconds in taken.items():
        rows.append(row(f"grading, {kind}", seconds))
        rows.append(row(f"grading over bare run, {kind}", [s - b for s, b in zip(seconds, bare)], OVERHEAD_S))
    return rows


def judged(task: Task, maker: RoomMaker) -> None:
    """Grade the gold patch."""
    found = grade(task, task.instance.patch.encode(), lambda: maker.sandbox(task, grading=True))
    assert found.resolved, (task.id, found.verdict)


def bare_run(task: Task, maker: RoomMaker) -> float:
    """Seconds of the evaluation script in a plain process, on a mended copy of the repository."""
    room = maker.room(task)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["cp", "-r", f"{room.repository}/.", folder], check=True)
        apply = ["git", "-C", folder, "apply", "-"]
        subprocess.run(apply, input=task.instance.patch.encode(), check=True)
        tools = str(next(iter(room.read_only.values())))
        env = {name: value.replace("/opt/aem", tools).replace("/testbed", folder) for name, value in room.env.items()}
        env["PATH"] = f"{tools}/bin:{Path(sys.base_prefix) / 'bin'}:{os.environ['PATH']}"
        script = evaluation_script(task, folder)
        run = lambda: subprocess.run(["bash", "-c", script], cwd=folder, env=env, capture_output=True)  # noqa: E731
        return timed(run)


def resets(kind: str, tasks: list[Task]) -> dict[str, Any]:
    """`reset` of the environment, each task for the second time."""
    env = gym.make(ENV, sandbox=kind).unwrapped
    taken = []
    for again in (False, True):
        for task in tasks:
            seconds = timed(lambda task=task: env.reset(options={"task_id": task.id}))  # type: ignore[misc]
            taken += [seconds] if again else []
    env.close()
    return row(f"reset, {kind}", taken, RESET_S if kind == "local" else None)


def episodes(source: EmbeddedTasks, count: int) -> dict[str, Any]:
    """Experts at once: seconds of each, and what came of them."""
    tasks = [TaskRef(ENV, task_id, "train") for task_id in source.ids("train")[:count]]
    manager = RolloutManager(lambda: gym.make(ENV), ExpertPolicy("expert"), concurrency=count, retries=0)

    async def play() -> Any:
        try:
            return await manager.run(tasks)
        finally:
            await manager.aclose()

    begun = time.perf_counter()
    groups = asyncio.run(play())
    wall = time.perf_counter() - begun
    done = [episode for group in groups for episode in group.episodes]
    lost = sum(len(group.errored) for group in groups)
    line = row(f"{count} experts at once, each", [episode.seconds for episode in done])
    mark = f"wall {wall:.1f} s, won {sum(e.won for e in done)}, lost {lost}"
    return {**line, "wall_s": round(wall, 2), "won": sum(e.won for e in done), "lost": lost, "mark": mark}


def harness(tasks: list[Task]) -> dict[str, Any]:
    """`swebench eval --gold`, one row after another; its process' start is taken off."""
    maker = RoomMaker("embedded", "docker", Limits())
    program = str(Path(sys.executable).with_name("swebench"))
    with tempfile.TemporaryDirectory() as folder:
        rows = [replace(task.instance, image=str(maker.room(task).image)) for task in tasks]
        write_jsonl(rows, Path(folder) / "rows.jsonl")
        options: dict[str, Any] = {"cwd": folder, "check": True, "capture_output": True}
        options["env"] = {**os.environ, "HF_HUB_OFFLINE": "1"}
        start = timed(lambda: subprocess.run([program, "eval", "--help"], **options))
        command = [program, "eval", "rows.jsonl", "--gold", "--run-id", "bench", "-j", "1"]
        whole = timed(lambda: subprocess.run(command, **options))
    return row("swebench eval --gold, each", [(whole - start) / len(tasks)] * len(tasks))


def timed(call: Callable[[], Any]) -> float:
    """Seconds a call took."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def row(what: str, seconds: list[float], limit: float | None = None) -> dict[str, Any]:
    """One line of the table."""
    median, high = statistics.median(seconds), sorted(seconds)[int(0.9 * (len(seconds) - 1))]
    mark = "" if limit is None else "ok" if median <= limit else f"> {limit:g}"
    return {"what": what, "median_s": round(median, 4), "p90_s": round(high, 4), "n": len(seconds), "mark": mark}


if __name__ == "__main__":
    main()
