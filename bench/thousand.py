"""A thousand episodes at once on two cores: what it takes, and that nothing is lost.

    python bench/thousand.py [--episodes 1000] [--latency 0.1] [--out bench/results/thousand.json]

Embedded ALFWorld games of at most 20 steps, all in flight together, each recorded to `episodes.jsonl`:

    expert       the environment's expert, whose turns take `--latency` seconds each; it lives with its environment
    fake engine  `ModelPolicy` with the plain prompts and a token engine that answers after `--latency` seconds

Either in-process and through two worker processes. Each case runs in a process of its own; a thread looks ten times a
second at it and at its workers: largest resident memory, open files and threads (itself included) of each. `base` is
what was held before the first episode. `µs/step` is wall time per environment step, so not an overhead: latencies are
in it.

Wanted: each case gives all episodes, once each, without an error; the record file holds the same; both pools play the
same episodes, to the last byte. Otherwise the status is 1, and `lost` in the JSON says how many tasks of a case have no
completed episode, or more than one, or another in the record file.
"""

import argparse
import asyncio
import gc
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _players import ALFWORLD, SlowExpert, made_up_action, make_alfworld
from _processes import Watch, held
from _results import add_out, save

from aem_agent.agent_config import AgentConfig
from aem_agent.engines.fake import ByteTokenizer, FakeTokenEngine
from aem_agent.model_policies import ModelPolicy
from aem_agent.pools import make_pool
from aem_agent.records import EpisodeWriter, dump_line, read_episodes
from aem_agent.rollout import RolloutManager
from aem_agent.types import Episode, Policy, Sampling, TaskRef

STEPS, WORKERS = 20, 2
CASES = [(player, pool) for player in ("expert", "fake engine") for pool in ("inline", "processes")]


def player_policy(player: str, latency: float) -> Policy:
    """The policy of a case."""
    if player == "expert":
        return SlowExpert(latency)
    engine = FakeTokenEngine(reply=made_up_action, latency=latency)
    spec, parser = AgentConfig("plain").build()
    return ModelPolicy(spec, engine, ByteTokenizer(), parser, Sampling(max_new_tokens=24), 4096)


def lost(ids: Sequence[str], played: Sequence[Episode], recorded: Sequence[Episode]) -> list[str]:
    """Tasks without one completed episode that is in the records too, just as it was played."""

    def completed(episodes: Sequence[Episode]) -> dict[str, list[bytes]]:
        lines: dict[str, list[bytes]] = {}
        for episode in episodes:
            if episode.completed:
                lines.setdefault(episode.task_id, []).append(dump_line(episode.identity()))
        return lines

    here, there = completed(played), completed(recorded)
    return [task_id for task_id in ids if len(here.get(task_id, ())) != 1 or here[task_id] != there.get(task_id)]


def digest(episodes: list[Episode]) -> str:
    """Of what does not depend on time or order."""
    lines = sorted(dump_line(episode.identity()) for episode in episodes)
    return hashlib.sha256(b"".join(lines)).hexdigest()


def play(player: str, pool_name: str, count: int, latency: float) -> dict[str, Any]:
    """One case, in this process."""
    env = make_alfworld()
    ids = env.unwrapped.task_ids("train", count)  # type: ignore[attr-defined]
    tasks = [TaskRef(ALFWORLD, task_id, "train") for task_id in ids]
    gc.collect()
    base = held(os.getpid())
    watch = Watch()
    watch.start()
    with tempfile.TemporaryDirectory(prefix="aem-bench-") as folder:
        path = Path(folder) / "episodes.jsonl"
        seconds, episodes = asyncio.run(_played(player_policy(player, latency), pool_name, tasks, path))
        watch.stop()
        recorded = list(read_episodes(path))
    steps = sum(len(e.turns) for e in episodes)
    return {
        "seconds": round(seconds, 2),
        "steps": steps,
        "us_per_step": round(seconds / max(steps, 1) * 1e6, 1),
        "lost": len(lost(ids, episodes, recorded)),
        "errors": sorted({e.error for e in episodes if e.error is not None})[:3],
        "base": base._asdict(),
        "own": watch.own._asdict(),
        "workers": [worker._asdict() for worker in watch.workers.values()],
        "digest": digest(episodes),
    }


async def _played(policy: Policy, pool_name: str, tasks: list[TaskRef], path: Path) -> tuple[float, list[Episode]]:
    pool = make_pool(pool_name, partial(make_alfworld, STEPS), workers=WORKERS)
    started = time.perf_counter()
    with EpisodeWriter(path) as writer:
        manager = RolloutManager(pool, policy, concurrency=len(tasks), on_episode=writer.write)
        try:
            groups = await manager.run(tasks)
        finally:
            await manager.aclose()
            await policy.aclose()
    return time.perf_counter() - started, [e for group in groups for e in (*group.episodes, *group.errored)]


def figures(row: dict[str, Any]) -> str:
    """A row of the table, its name excepted."""
    base, own, workers = row["base"], row["own"], row["workers"]
    most = {key: max((worker[key] for worker in workers), default=0) for key in base}
    return (
        f"{row['seconds']:8.2f}{row['steps']:8}{row['us_per_step']:9.1f}{base['rss_mb']:9.0f}{own['rss_mb']:9.0f}"
        f"{own['files']:7}{own['threads']:9}{len(workers):9}{most['rss_mb']:8.0f}{most['files']:7}{most['threads']:9}"
    )


def verdict(rows: dict[str, dict[str, Any]]) -> bool:
    """Say what was lost and what differs; whether nothing was and does."""
    well = True
    for name, row in rows.items():
        if row["lost"]:
            print(f"{name}: {row['lost']} episodes LOST {'; '.join(row['errors'])}")
            well = False
    for player in dict.fromkeys(player for player, _ in CASES):
        if len({row["digest"] for name, row in rows.items() if name.startswith(player)}) != 1:
            print(f"{player}: the pools played DIFFERENT episodes")
            well = False
    if well:
        print("nothing lost; both pools played the same episodes")
    return well


def main() -> int:
    """Print the table; exit status 1 where something was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--latency", type=float, default=0.1, help="seconds of a turn")
    add_out(parser, "thousand")
    parser.add_argument("--case", nargs=2, metavar=("PLAYER", "POOL"), help="play one in this process, print JSON")
    args = parser.parse_args()
    if args.case:
        player, pool = args.case
        print(json.dumps(play(player, pool, args.episodes, args.latency)))
        return 0
    print(f"{args.episodes} episodes at once, {1000 * args.latency:g} ms a turn; memory in MB, of workers the largest")
    heads = ("seconds", "steps", "µs/step", "base MB", "MB", "files", "threads", "workers", "MB", "files", "threads")
    print(f"{'':24}" + "".join(f"{head:>{w}}" for head, w in zip(heads, (8, 8, 9, 9, 9, 7, 9, 9, 8, 7, 9))))
    rows: dict[str, dict[str, Any]] = {}
    for player, pool in CASES:
        sizes = ["--episodes", str(args.episodes), "--latency", str(args.latency)]
        done = subprocess.run([sys.executable, __file__, *sizes, "--case", player, pool], stdout=subprocess.PIPE)
        if done.returncode:
            raise SystemExit(f"{player}, {pool}: failed with status {done.returncode}")
        rows[f"{player}, {pool}"] = row = json.loads(done.stdout)
        print(f"{player + ', ' + pool:24}{figures(row)}", flush=True)
    well = verdict(rows)
    save(args.out, {"episodes": args.episodes, "latency_s": args.latency, "rows": rows})
    return 0 if well else 1


if __name__ == "__main__":
    raise SystemExit(main())
