"""Tokens per second of real vLLM through the rollout manager, against the same prompts sent to vLLM directly.

    OMP_NUM_THREADS=1 PYTHONPATH=. PYTHON bench/vllm_manager.py [--episodes 32] [--concurrency 16] [--turns 6]
        [--rounds 12] [--model FOLDER] [--device cpu] [--out bench/results/vllm_manager.json]

PYTHON is one that has vLLM; without vLLM nothing is measured, and that is no failure. The model is made here unless
`--model` names one: preset `small` (4 layers, width 256, byte-level BPE), random weights, fp32 on CPUs.

    manager         `--episodes` embedded ALFWorld episodes of `--turns` turns, `--concurrency` at once, through
                    `ModelPolicy` (prompt of the last three turns) and `VllmEngine`; recorded to `episodes.jsonl`.
                    Nothing is retried: an episode that fails ends the benchmark
    direct          the prompts that the manager sent last, with the same sampling and seeds, to the same `AsyncLLM`:
                    an episode's next prompt is sent when the answer to the one before is there, `--concurrency`
                    episodes at once. The same dependencies, without environments, prompts and records
    all at once     the same, all prompts sent together: an upper bound that no multi-turn rollout can reach

Temperature 1 and 32 new tokens at most, so that decoding dominates. Every round plays the three after one another, in
turn forwards and backwards, each with an empty prefix cache; a first round warms up and is not counted. Tokens are
those that vLLM sampled.

Wanted: tokens/s of the manager ≥ 95 % of `direct`'s, by the median of the ratios within a round, since a busy machine
makes one round differ from the next by half; the ratio of the best rounds is shown beside it. Less depends on
neighbours: `steps` of vLLM's scheduler (a manager that let requests wait would need more), and `own CPU`, processor
time of this process, in which vLLM's client side runs too (the model runs in vLLM's own). What the manager has of it
beyond `direct` is environments, prompts, records, and two hops between threads per turn.

Missed, the status is 1. Two minutes on two cores.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _players import ALFWORLD, make_alfworld
from _results import add_out, save

from aem_agent.agent_config import AgentConfig
from aem_agent.model_policies import ModelPolicy
from aem_agent.records import EpisodeWriter
from aem_agent.rollout import RolloutManager
from aem_agent.types import AgentError, GenerateRequest, Response, Sampling, TaskRef

WANTED = 0.95
SAMPLING = Sampling(temperature=1.0, max_new_tokens=32)
Prompts = list[list[GenerateRequest]]
"""Requests of each episode, in order."""


class Taken(NamedTuple):
    """One round of one way."""

    seconds: float
    cpu_seconds: float
    tokens: int
    steps: int
    """Of vLLM's scheduler, as far as their outputs came one by one."""

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


class Steps:
    """Counts what comes back from vLLM's scheduler: one batch of outputs per step. Zero where this vLLM differs."""

    def __init__(self, llm: Any) -> None:
        self.count = 0
        processor = getattr(llm, "output_processor", None)
        original = getattr(processor, "process_outputs", None)
        if original is None:
            return

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            return original(*args, **kwargs)

        processor.process_outputs = counted  # type: ignore[union-attr]


class Recording:
    """A token engine that notes what it is asked."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.version = 0
        self.asked: dict[int | None, list[GenerateRequest]] = {}

    async def generate(self, request: GenerateRequest) -> Response:
        self.asked.setdefault(request.conversation, []).append(request)
        answer: Response = await self.engine.generate(request)
        return answer

    async def load_weights(self, state: Any, *, running: Any = "wait") -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        """The engine is closed by its owner."""


def make_model(folder: Path) -> Path:
    """The preset `small` over this environment's texts."""
    from aem_agent.model.presets import make_preset

    env = make_alfworld()
    ids = env.unwrapped.task_ids("train", 64)  # type: ignore[attr-defined]
    texts = [env.reset(options={"task_id": task_id})[0] for task_id in ids]
    return make_preset("small", folder, 0, texts)


async def managed(engine: Any, args: argparse.Namespace, folder: Path) -> tuple[int, Prompts]:
    """Tokens sampled, and what was asked, of one round through the manager. Without retries: what was asked is what
    the tokens are of."""
    recording = Recording(engine)
    limit = min(engine.max_positions, 1024)
    spec, parser = AgentConfig("plain").build()
    policy = ModelPolicy(spec, recording, engine.tokenizer, parser, SAMPLING, limit)
    env = make_alfworld()
    ids = env.unwrapped.task_ids("train", args.episodes)  # type: ignore[attr-defined]
    tasks = [TaskRef(ALFWORLD, task_id, "train") for task_id in ids]
    path = folder / "episodes.jsonl"
    with EpisodeWriter(path) as writer:
        make_env = partial(make_alfworld, args.turns)
        manager = RolloutManager(make_env, policy, concurrency=args.concurrency, retries=0, on_episode=writer.write)
        groups = await manager.run(tasks)
        await manager.aclose()
    path.unlink()
    for error in (episode.error for group in groups for episode in group.errored):
        raise RuntimeError(f"an episode failed, so that the ways would differ: {error}")
    episodes = [episode for group in groups for episode in group.episodes]
    assert len(episodes) == args.episodes, f"{len(episodes)} episodes of {args.episodes}"
    tokens = sum(len(turn.response.token_ids) for episode in episodes for turn in episode.turns)
    return tokens, list(recording.asked.values())


async def direct(engine: Any, prompts: Prompts, concurrency: int) -> int:
    """Tokens of the prompts sent to vLLM itself, in its own loop; each episode's one after another."""
    from aem_agent.engines import vllm_compat as compat

    llm, eos = engine.client.llm, engine.tokenizer.eos_token_id
    jobs = iter(enumerate(prompts))

    async def one(request: GenerateRequest, name: str) -> int:
        params = compat.sampling_params(request.sampling, request.seed, eos)
        last = None
        async for output in llm.generate(compat.prompt(request.prompt_token_ids), params, name):
            last = output
        assert last is not None
        return len(last.outputs[0].token_ids)

    async def slot() -> int:
        tokens = 0
        for number, episode in jobs:
            for turn, request in enumerate(episode):
                tokens += await one(request, f"d{number}-{turn}")
        return tokens

    return sum(await asyncio.gather(*(slot() for _ in range(min(concurrency, len(prompts))))))


def rounds(engine: Any, args: argparse.Namespace) -> dict[str, list[Taken]]:
    """Every counted round of each way."""
    prompts: Prompts = []
    steps = Steps(engine.client.llm)

    def sent(what: Prompts, slots: int) -> int:
        tokens: int = engine.client.thread.wait(direct(engine, what, slots))
        return tokens

    def through_manager() -> int:
        nonlocal prompts
        tokens, prompts = runner.run(managed(engine, args, Path(folder)))
        return tokens

    def all_at_once() -> int:
        every = [[request] for episode in prompts for request in episode]
        return sent(every, len(every))

    def timed(run: Callable[[], int]) -> Taken:
        engine.client.thread.wait(engine.client.llm.reset_prefix_cache())
        cpu, before, started = time.process_time(), steps.count, time.perf_counter()
        tokens = run()
        seconds, spent = time.perf_counter() - started, time.process_time() - cpu
        return Taken(seconds, spent, tokens, steps.count - before)

    ways: dict[str, Callable[[], int]] = {
        "manager": through_manager,
        "direct": lambda: sent(prompts, args.concurrency),
        "all at once": all_at_once,
    }
    found: dict[str, list[Taken]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory(prefix="aem-bench-") as folder, asyncio.Runner() as runner:
        for number in range(args.rounds + 1):
            for way in ways if number % 2 == 0 else reversed(ways):
                taken = timed(ways[way])
                if number:
                    found[way].append(taken)
    return found


def figures(found: dict[str, list[Taken]]) -> dict[str, dict[str, Any]]:
    """Of each way: medians, the best, and ratios to `direct`: the median of those within a round, and of the bests."""
    sent = found["direct"]
    return {
        way: {
            "tokens": statistics.median(t.tokens for t in taken),
            "steps": statistics.median(t.steps for t in taken),
            "own_cpu_s": round(statistics.median(t.cpu_seconds for t in taken), 3),
            "tokens_per_s": round(statistics.median(t.speed for t in taken), 1),
            "best_tokens_per_s": round(max(t.speed for t in taken), 1),
            "of_direct": round(statistics.median(t.speed / d.speed for t, d in zip(taken, sent)), 4),
            "best_of_direct": round(max(t.speed for t in taken) / max(d.speed for d in sent), 4),
            "rounds": [one._asdict() for one in taken],
        }
        for way, taken in found.items()
    }


def report(rows: dict[str, dict[str, Any]]) -> bool:
    """The table; whether the manager is as fast as wanted."""
    heads = f"{'tokens':>8}{'steps':>7}{'own CPU s':>11}{'tokens/s':>10}{'÷ direct':>10}{'best':>8}{'÷ direct':>10}"
    print(f"{'':14}{heads}")
    for way, row in rows.items():
        counts = f"{row['tokens']:8.0f}{row['steps']:7.0f}{row['own_cpu_s']:11.2f}"
        speeds = f"{row['tokens_per_s']:10.0f}{row['of_direct']:10.3f}"
        best = f"{row['best_tokens_per_s']:8.0f}{row['best_of_direct']:10.3f}"
        print(f"{way:14}{counts}{speeds}{best}")
    ratio, apart = rows["manager"]["of_direct"], rows["manager"]["own_cpu_s"] - rows["direct"]["own_cpu_s"]
    seconds = statistics.median(taken["seconds"] for taken in rows["direct"]["rounds"])
    print(f"the manager's own CPU beyond direct's: {apart:.3f} s a round, {apart / seconds:.1%} of direct's wall time")
    verdict = "ok" if ratio >= WANTED else "MISSED"
    print(f"manager ÷ direct, median of the rounds' ratios: {ratio:.3f}, wanted ≥ {WANTED}: {verdict}")
    return bool(ratio >= WANTED)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=32)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--model", type=Path, help="model folder")
    parser.add_argument("--device", default="cpu")
    add_out(parser, "vllm_manager")
    return parser.parse_args(given)


def main() -> int:
    """Print the table; exit status 1 where the manager is slower than wanted."""
    args = arguments()
    try:
        from aem_agent.engines.vllm_compat import release
        from aem_agent.engines.vllm_engine import VllmEngine

        line = release()
    except (AgentError, ImportError) as error:
        print(f"vLLM through the manager: left out, {error}")
        return 0
    with tempfile.TemporaryDirectory(prefix="aem-bench-model-") as folder:
        model = args.model or make_model(Path(folder))
        engine = VllmEngine.load(model, device=args.device, max_batch=args.concurrency)
        try:
            found = rounds(engine, args)
        finally:
            asyncio.run(engine.aclose())
    name = args.model.name if args.model else "preset small, random weights"
    print(f"vLLM {line[0]}.{line[1]} ({args.device}), {name}; {args.episodes} episodes of {args.turns} turns,", end=" ")
    print(f"{args.concurrency} at once, at most {SAMPLING.max_new_tokens} new tokens, {args.rounds} rounds")
    rows = figures(found)
    met = report(rows)
    sizes = {name: getattr(args, name) for name in ("episodes", "concurrency", "turns", "device")}
    save(args.out, {"vllm": ".".join(map(str, line)), "model": name, **sizes, "wanted": WANTED, "rows": rows})
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
