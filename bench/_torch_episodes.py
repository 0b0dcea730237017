"""Whole conversations through our sampler, with and without what it keeps of earlier turns: `torch_engine.py
--episodes`."""

import json
import random
import tempfile
import time
from typing import Any


def episodes(rounds: int) -> list[dict[str, Any]]:
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

    found = []
    for changes, rows, turns, head in shapes:
        folder = make_preset(preset("tiny", **changes), tempfile.mkdtemp(), 0, [" ".join(words)] * 2)
        model, tokenizer = load_model(folder), load_tokenizer(folder)
        for window in (None, 48):
            seconds: dict[str, list[float]] = {"afresh": [], "kept": []}
            for _ in range(rounds):
                for name, times in seconds.items():
                    sampler = Sampler(model, tokenizer, Conversations(1 << 30) if name == "kept" else None)
                    start = time.process_time()
                    play(sampler, rows, turns, head, window)
                    times.append(time.process_time() - start)
            best = {name: round(min(times), 3) for name, times in seconds.items()}
            shape = {"width": model.hidden_size, "conversations": rows, "turns": turns, "head": head, "window": window}
            found.append({**shape, "seconds": best, "ratio": round(best["afresh"] / best["kept"], 2)})
            print(json.dumps(found[-1]), flush=True)
    return found
