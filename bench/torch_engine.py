"""Our engine and packed forward against transformers' on the same weights and requests: a table, and a JSON line each.

    OMP_NUM_THREADS=1 python bench/torch_engine.py [--presets tiny small] [--rows 96] [--new 16] [--rounds 5]
        [--out bench/results/torch_engine.json]
    OMP_NUM_THREADS=1 python bench/torch_engine.py --episodes [--rounds 3]

Wanted: ≥ 1.4 × `generate` *alike*, and ≥ 2 × `generate` in batches *mixed*, for each preset; missed, the status is 1.
`--out` takes all JSON lines as one file (with `--episodes`, `torch_engine_episodes.json` beside the other unless
named); `--json` prints the JSON lines only.

*alike*: all prompts at once, the same number of new tokens for all, against `generate`. *mixed*: three times as many
requests as places, 192 through 64 (`--places`), with limits of new tokens spread evenly over 4 … 96 in random order.
Our engine takes them all and replaces finished rows; `generate` takes them in that order in batches of as many as are
places, each of which runs until its longest is finished; transformers' continuous batching takes all. Nobody stops
before its limit: there is no end token. Ours records log-probs and entropies, transformers' do neither. *train*:
forward and backward passes.

Prompts are made as rollouts make them: groups of 8 share a beginning (task and room; `--shared 0`: nothing), the rest
differs. Rounds of all contestants alternate, and the smallest CPU time of each counts, so that neighbours on the
machine disturb little. `ours` is `TorchEngine`, asked by as many coroutines as there are requests. With `--episodes`,
whole conversations are played instead, with and without what the engine keeps of earlier turns, through its sampler
alone: prompts that only grow, and prompts that show the last 48 tokens after their head.
"""

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from _results import FOLDER, add_out, save
from _torch_episodes import episodes

WANTED = {"alike": 1.4, "mixed": 2.0}
"""Least multiples of the speed of `generate`."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["tiny", "small"])
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--shared", type=int, default=25, help="tokens that the 8 prompts of a group share")
    parser.add_argument("--own", type=int, default=24, help="mean of each prompt's own tokens")
    parser.add_argument("--new", type=int, default=16, help="new tokens of each row, alike")
    parser.add_argument("--places", type=int, default=64, help="rows at once, mixed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip-training", action="store_true")
    parser.add_argument("--episodes", action="store_true", help="conversations over many turns")
    parser.add_argument("--json", action="store_true", help="print the JSON lines only, no table and no verdicts")
    add_out(parser, "torch_engine")
    return parser.parse_args()


class Endless:
    """A tokenizer without an end token."""

    eos_token_id = -1

    def __init__(self, tokenizer: Any) -> None:
        self.encode, self.decode = tokenizer.encode, tokenizer.decode


def made(name: str) -> tuple[Any, Any, Any, Any]:
    """Our model, its tokenizer, and transformers' model of the same weights twice: plain and with paged attention."""
    from transformers import AutoModelForCausalLM

    from aem_agent.model.interface import load_model, load_tokenizer
    from aem_agent.model.presets import make_preset

    words = [f"{a}{b}" for a in "abcdefghijklmnop" for b in "abcdefghijklmnop"]
    folder = make_preset(name, tempfile.mkdtemp(), 0, [" ".join(words)] * 2)
    theirs = [AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval() for _ in range(2)]
    for model in theirs:
        model.generation_config.eos_token_id = None
    theirs[1].set_attn_implementation("paged|sdpa")
    return load_model(folder), Endless(load_tokenizer(folder)), *theirs


def made_prompts(args: argparse.Namespace, count: int, vocabulary: int) -> list[list[int]]:
    """Prompts in groups of 8."""
    rng = random.Random(0)

    def tokens(count: int) -> list[int]:
        return [rng.randrange(7, vocabulary - 7) for _ in range(count)]

    heads = [tokens(args.shared) for _ in range(-(-count // 8))]
    return [heads[i // 8] + tokens(rng.randint(args.own - 9, args.own + 9)) for i in range(count)]


def requests_of(prompts: list[list[int]], limits: list[int]) -> list[Any]:
    """Ours, with entropies."""
    from aem_agent.types import GenerateRequest, Sampling

    pairs = enumerate(zip(prompts, limits, strict=True))
    return [GenerateRequest(tuple(p), Sampling(max_new_tokens=n, entropies=True), i) for i, (p, n) in pairs]


def answer(engine: Any, requests: Sequence[Any], limits: Sequence[int]) -> None:
    """Our way: every request by a coroutine of its own."""

    async def run() -> list[Any]:
        return await asyncio.gather(*(engine.generate(request) for request in requests))

    assert [len(said.token_ids) for said in asyncio.run(run())] == list(limits)


def generate(theirs: Any, prompts: list[list[int]], most: int) -> None:
    """transformers' way with one batch."""
    ids, mask = padded(prompts)
    out = theirs.generate(ids, attention_mask=mask, max_new_tokens=most, do_sample=True, pad_token_id=0)
    assert out.shape[1] == ids.shape[1] + most


def alike(args: argparse.Namespace, model: Any, tokenizer: Any, theirs: Any) -> dict[str, Callable[[], Any]]:
    """The same number of new tokens for all."""
    from aem_agent.engines.torch_engine import TorchEngine

    engine, prompts = (
        TorchEngine(model, tokenizer, max_batch=args.rows),
        made_prompts(args, args.rows, model.vocab_size),
    )
    limits = [args.new] * args.rows
    requests = requests_of(prompts, limits)
    return {
        "alike: ours": lambda: answer(engine, requests, limits),
        "alike: generate": lambda: generate(theirs, prompts, args.new),
    }


def mixed(
    args: argparse.Namespace, model: Any, tokenizer: Any, theirs: Any, paged: Any
) -> dict[str, Callable[[], Any]]:
    """Limits from 4 to 96."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    from aem_agent.engines.torch_engine import TorchEngine

    places, count = args.places, 3 * args.places
    prompts = made_prompts(args, count, model.vocab_size)
    limits = [4 + round(92 * i / (count - 1)) for i in range(count)]
    random.Random(1).shuffle(limits)
    engine, requests = TorchEngine(model, tokenizer, max_batch=places), requests_of(prompts, limits)
    plain = GenerationConfig(do_sample=True, eos_token_id=-1, pad_token_id=0, max_new_tokens=96)
    blocks = ContinuousBatchingConfig(num_blocks=2 * places, max_batch_tokens=1024, max_requests_per_batch=places)

    def batches() -> None:
        for i in range(0, count, places):
            generate(theirs, prompts[i : i + places], max(limits[i : i + places]))

    def continuous() -> None:
        with paged.continuous_batching_context_manager(
            generation_config=plain, continuous_batching_config=blocks, warmup=False
        ) as manager:
            for prompt, limit in zip(prompts, limits, strict=True):
                manager.add_request(prompt, max_new_tokens=limit)
            said = 0
            for _ in range(count):
                result = manager.get_result(timeout=120)
                said += len(result.generated_tokens)
        assert said == sum(limits)

    ours = partial(answer, engine, requests, limits)
    return {"mixed: ours": ours, "mixed: generate in batches": batches, "mixed: generate_batch": continuous}


def padded(prompts: list[list[int]]) -> tuple[Any, Any]:
    """Left-padded ids and their attention mask."""
    import torch

    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    return ids, torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])


def trainers(model: Any, theirs: Any, prompts: list[list[int]]) -> dict[str, Callable[[], Any]]:
    """Forward and backward passes that score the last four tokens of every prompt."""
    import torch

    ids, mask = padded(prompts)
    flat = torch.tensor([t for p in prompts for t in p])
    cu = torch.tensor([0, *map(len, prompts)]).cumsum(0)
    ends = torch.cat([cu[1:] - k for k in range(1, 5)])

    def train_theirs() -> None:
        theirs.zero_grad()
        states = theirs.model(ids, attention_mask=mask).last_hidden_state
        theirs.lm_head(states[:, -4:].flatten(0, 1)).log_softmax(-1).square().mean().backward()

    def train_ours(at: Any) -> None:
        for p in model.parameters():
            p.grad = None
        hidden = model.hidden(flat, cu)[ends] if at is None else model.hidden(flat, cu, at)
        model.head(hidden).log_softmax(-1).square().mean().backward()

    return {
        "train: decoder": lambda: train_ours(None),
        "train: decoder, chosen tokens": lambda: train_ours(ends),
        "train: transformers": train_theirs,
    }


def fastest(contestants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Smallest CPU seconds of each over alternating rounds; the first warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds + 1):
        for name, run in contestants.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    return {name: min(times[1:]) for name, times in seconds.items()}


def compare(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """One preset: a table, a JSON line, and a verdict."""
    model, tokenizer, theirs, paged = made(name)
    contestants = alike(args, model, tokenizer, theirs) | mixed(args, model, tokenizer, theirs, paged)
    if not args.skip_training:
        contestants |= trainers(model, theirs, made_prompts(args, args.rows, model.vocab_size))
    best = fastest(contestants, args.rounds)
    ratios = {
        "alike": best["alike: generate"] / best["alike: ours"],
        "mixed": best["mixed: generate in batches"] / best["mixed: ours"],
        "mixed, generate_batch": best["mixed: generate_batch"] / best["mixed: ours"],
    }
    if not args.skip_training:
        ratios["train"] = best["train: transformers"] / best["train: decoder, chosen tokens"]
    record = {
        "preset": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "rows": args.rows,
        "new": args.new,
        "places": args.places,
        "shared": args.shared,
        "milliseconds": {name: round(1e3 * value, 2) for name, value in best.items()},
        "ratios": {name: round(value, 2) for name, value in ratios.items()},
        "wanted": WANTED,
        "met": {what: ratios[what] >= least for what, least in WANTED.items()},
    }
    if not args.json:
        for contestant, value in best.items():
            print(f"{name:6} {contestant:32} {1e3 * value:9.2f} ms")
        for what, least in WANTED.items():
            verdict = "ok" if ratios[what] >= least else "MISSED"
            print(f"{name:6} {what}: {ratios[what]:.2f} × generate, wanted ≥ {least:g}: {verdict}")
    print(json.dumps(record), flush=True)
    return record


def main() -> int:
    """Print the tables; exit status 1 where our engine is not as fast as wanted."""
    args = arguments()
    if args.episodes:
        out = FOLDER / "torch_engine_episodes.json" if args.out == FOLDER / "torch_engine.json" else args.out
        save(out, {"rounds": args.rounds, "rows": episodes(args.rounds)})
        return 0
    import logging

    import torch

    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    found = [compare(args, name) for name in args.presets]
    save(args.out, {"rounds": args.rounds, "presets": found})
    return 0 if all(met for record in found for met in record["met"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
