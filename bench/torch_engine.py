"""Our sampler and packed forward against transformers' on the same weights and batch: a table and one JSON line.

    OMP_NUM_THREADS=1 python bench/torch_engine.py [--preset tiny] [--rows 96] [--rounds 10]
    OMP_NUM_THREADS=1 python bench/torch_engine.py --episodes [--rounds 3]

Prompts are made as rollouts make them: groups of 8 share a beginning (task and room), the rest differs. Rounds of all
contestants alternate, and the smallest CPU time of each counts, so that neighbours on the machine disturb little. With
`--episodes`, whole conversations are played instead, with and without what the engine keeps of earlier turns: prompts
that only grow, and prompts that show the last 48 tokens after their head.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from typing import Any


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--shared", type=int, default=25, help="tokens that the 8 prompts of a group share")
    parser.add_argument("--own", type=int, default=24, help="mean of each prompt's own tokens")
    parser.add_argument("--new", type=int, default=5, help="most new tokens; 3 to this many per row")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--episodes", action="store_true", help="conversations over many turns")
    parser.add_argument("--json", action="store_true", help="print the JSON line only")
    return parser.parse_args()


def episodes(args: argparse.Namespace) -> None:
    """Conversations of 12 new and 4 sampled tokens per turn: one JSON line per shape and kind of prompt."""
    import torch

    from aem_agent.model.conversations import Conversations
    from aem_agent.model.interface import load_model, load_tokenizer
    from aem_agent.model.presets import make_preset, preset
    from aem_agent.model.sampler import Sampler
    from aem_agent.types import GenerateRequest, Sampling

    torch.set_num_threads(1)
    words = [f"{a}{b}" for a in "abcdefghijklmnop" for b in "abcdefghijklmnop"]
    wider = {"hidden_size": 128, "layers": 4, "head_dim": 32, "ffn": 288}
    shapes: list[tuple[dict[str, int], int, int, int]] = [({}, 96, 20, 45), (wider, 64, 40, 60)]

    def play(sampler: Sampler, rows: int, turns: int, head: int, window: int | None) -> None:
        rng = random.Random(0)

        def tokens(count: int) -> tuple[int, ...]:
            return tuple(rng.randrange(7, sampler.model.vocab_size - 7) for _ in range(count))

        heads, sampling = [tokens(head) for _ in range(-(-rows // 8))], Sampling(max_new_tokens=4, entropies=True)
        later: list[tuple[int, ...]] = [()] * rows
        for turn in range(turns):
            shown = [x if window is None else x[-window:] for x in later]
            asked = [GenerateRequest(heads[i // 8] + shown[i], sampling, 1000 * turn + i, i) for i in range(rows)]
            later = [x + said.token_ids + tokens(12) for x, said in zip(later, sampler(asked), strict=True)]

    for changes, rows, turns, head in shapes:
        folder = make_preset(preset("tiny", **changes), tempfile.mkdtemp(), 0, [" ".join(words)] * 2)
        model, tokenizer = load_model(folder), load_tokenizer(folder)
        for window in (None, 48):
            seconds: dict[str, list[float]] = {"afresh": [], "kept": []}
            for _ in range(args.rounds):
                for name, times in seconds.items():
                    sampler = Sampler(model, tokenizer, Conversations(1 << 30) if name == "kept" else None)
                    start = time.process_time()
                    play(sampler, rows, turns, head, window)
                    times.append(time.process_time() - start)
            best = {name: round(min(times), 3) for name, times in seconds.items()}
            shape = {"width": model.hidden_size, "conversations": rows, "turns": turns, "head": head, "window": window}
            print(json.dumps({**shape, "seconds": best, "ratio": round(best["afresh"] / best["kept"], 2)}), flush=True)


def made(name: str) -> tuple[Any, Any, Any]:
    """Our model, its tokenizer, and transformers' model of the same weights."""
    from transformers import AutoModelForCausalLM

    from aem_agent.model.interface import load_model, load_tokenizer
    from aem_agent.model.presets import make_preset

    words = [f"{a}{b}" for a in "abcdefghijklmnop" for b in "abcdefghijklmnop"]
    folder = make_preset(name, tempfile.mkdtemp(), 0, [" ".join(words)] * 2)
    theirs = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    theirs.generation_config.eos_token_id = None
    return load_model(folder), load_tokenizer(folder), theirs


def made_prompts(args: argparse.Namespace, vocabulary: int) -> tuple[list[list[int]], list[int]]:
    """Prompts, and how many new tokens each asks for."""
    rng = random.Random(0)

    def tokens(count: int) -> list[int]:
        return [rng.randrange(7, vocabulary - 7) for _ in range(count)]

    heads = [tokens(args.shared) for _ in range(-(-args.rows // 8))]
    prompts = [heads[i // 8] + tokens(rng.randint(args.own - 9, args.own + 9)) for i in range(args.rows)]
    return prompts, [rng.randint(3, args.new) for _ in prompts]


def generators(
    model: Any, tokenizer: Any, theirs: Any, prompts: list[list[int]], limits: list[int], most: int
) -> dict[str, Callable[[], Any]]:
    """Sampling from all prompts, ours with log-probs and entropies."""
    from aem_agent.model.sampler import Sampler
    from aem_agent.types import GenerateRequest, Sampling

    sampler = Sampler(model, tokenizer)
    requests = [
        GenerateRequest(tuple(p), Sampling(max_new_tokens=n, entropies=True), i)
        for i, (p, n) in enumerate(zip(prompts, limits, strict=True))
    ]
    ids, mask = padded(prompts)

    def generate() -> None:
        theirs.generate(ids, attention_mask=mask, max_new_tokens=most, do_sample=True, pad_token_id=0)

    return {"generate: sampler": lambda: sampler(requests), "generate: transformers": generate}


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


def main() -> None:
    args = arguments()
    if args.episodes:
        episodes(args)
        return
    import torch

    torch.set_num_threads(1)
    model, tokenizer, theirs = made(args.preset)
    prompts, limits = made_prompts(args, model.vocab_size)
    contestants = generators(model, tokenizer, theirs, prompts, limits, args.new) | trainers(model, theirs, prompts)
    best = fastest(contestants, args.rounds)
    record = {
        "preset": args.preset,
        "parameters": sum(p.numel() for p in model.parameters()),
        "rows": args.rows,
        "prompt_tokens": sum(map(len, prompts)),
        "milliseconds": {name: round(1e3 * value, 2) for name, value in best.items()},
        "generate_ratio": round(best["generate: transformers"] / best["generate: sampler"], 2),
        "train_ratio": round(best["train: transformers"] / best["train: decoder, chosen tokens"], 2),
    }
    if not args.json:
        for name, value in best.items():
            print(f"{name:32} {1e3 * value:9.2f} ms")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
