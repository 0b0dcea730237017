"""The parts of `gpu.py`: each measures one thing of an open run and returns its figures."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from _gpu_model import VOCABULARY, Size, Watch, packed
from torch import Tensor, nn

from aem_agent.engines.torch_engine import TorchEngine
from aem_agent.model.sampler import Sampler
from aem_agent.types import GenerateRequest, Sampling
from trainer.flops import decode_bytes, mfu, step_flops
from trainer.head import linear_logprobs_and_entropy
from trainer.loop import rl_step
from trainer.losses import token_logprobs, token_logprobs_and_entropy
from trainer.metrics import Clock
from trainer.resources import memory
from trainer.scoring import score
from trainer.session import Session
from trainer.update import make_plan, update

Figures = dict[str, Any]

BANDWIDTHS: tuple[tuple[str, float], ...] = (
    ("H200", 4.8e12),
    ("H100 NVL", 3.9e12),
    ("H100 PCIe", 2.0e12),
    ("H100", 3.35e12),
)
"""Bytes per second of the memory by a part of the device's name, the first that fits; from NVIDIA's data sheets."""

PIECES = 64
"""In how many pieces the plain head makes entropies; of 128 rows at the full size."""


def passes(session: Session, size: Size, watch: Watch, peak: float | None) -> Figures:
    """Scoring and update of packed sequences, as a training step does both; the update with its optimiser step.

    The head's logits are made at response tokens only, a quarter of all.
    """
    batch = packed(size, size.micro_batches, watch.device)
    room, policy, config = size.sequences * size.length, session.learner.policy, session.config
    temperature = config.rollout.temperature

    def scored() -> Any:
        return score(policy, batch, temperature=temperature, max_tokens=room, parity_limit=session.parity_limit)

    scores = scored()
    advantages = torch.linspace(-1, 1, batch.n_responses, device=watch.device)
    ended = torch.ones(batch.n_responses, dtype=torch.bool, device=watch.device)
    plan = make_plan(batch, advantages, None, ended, config.algorithm)
    generator = torch.Generator().manual_seed(0)

    def updated() -> None:
        update(session.learner, batch, scores, plan, config, generator)

    scoring = watch.seconds(scored, size.rounds)
    training = watch.seconds(updated, size.rounds)
    shape, cu, at = size.shape, batch.cu_seqlens, batch.targets
    done = {backward: float(step_flops(shape, cu, at, backward=backward)) for backward in (False, True)}
    return {
        "tokens": len(batch.tokens),
        "tokens_per_micro_batch": room,
        "scoring_seconds": scoring,
        "scoring_tflops": done[False] / scoring / 1e12,
        "scoring_mfu": mfu(done[False], scoring, peak),
        "update_seconds": training,
        "update_tflops": done[True] / training / 1e12,
        "update_mfu": mfu(done[True], training, peak),
        "activations_recomputed": config.scale.checkpoint_activations,
        **memory(watch.device),
    }


def head(size: Size, watch: Watch, dtype: torch.dtype) -> Figures:
    """The fused head against linear layer, log-softmax and entropy one after the other, forward and backward: most
    memory held at once beyond the inputs, the weight's gradient included, and seconds.

    The plain one is the lightest there is: with an entropy bonus it would keep more, and the fused one look better.
    """
    generator = torch.Generator(watch.device).manual_seed(0)
    n, width = size.head_tokens, size.head_width

    def made(rows: int, scale: float) -> Tensor:
        x = torch.randn(rows, width, generator=generator, device=watch.device) * scale
        return x.to(dtype).requires_grad_()

    hidden, weight = made(n, 1.0), made(VOCABULARY, width**-0.5)
    targets = torch.randint(VOCABULARY, (n,), generator=generator, device=watch.device)

    def fused() -> None:
        _backward(linear_logprobs_and_entropy(hidden, weight, targets, keep=0), hidden, weight)

    def plain() -> None:
        _backward(plain_head(hidden, weight, targets), hidden, weight)

    found: Figures = {"tokens": n, "width": width, "vocabulary": VOCABULARY}
    for name, work in (("fused", fused), ("plain", plain)):
        found[f"{name}_seconds"] = watch.seconds(work, size.rounds)
        found[f"{name}_gb"] = watch.peak_bytes(work) / 1e9
    return found | {
        "memory_ratio": found["fused_gb"] / found["plain_gb"],
        "time_ratio": found["fused_seconds"] / found["plain_seconds"],
    }


def plain_head(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probs [N] of all logits at once, and entropies [N], piece by piece and without a gradient, as in TRL and verl
    where the loss has no entropy bonus."""
    logits = F.linear(hidden, weight)
    with torch.no_grad():
        pairs = zip(logits.chunk(PIECES), targets.chunk(PIECES), strict=True)
        entropies = torch.cat([token_logprobs_and_entropy(*pair)[1] for pair in pairs])
    return token_logprobs(logits, targets), entropies


def _backward(pair: tuple[Tensor, Tensor], hidden: Tensor, weight: Tensor) -> None:
    """Log-probs only, as a loss without an entropy bonus."""
    pair[0].sum().backward()  # type: ignore[no-untyped-call]
    hidden.grad = weight.grad = None


def copy_bandwidth(watch: Watch, size: int, rounds: int) -> float:
    """Bytes read and written in a second by a copy of `size` bytes."""
    source = torch.zeros(size, dtype=torch.uint8, device=watch.device)
    target = torch.empty_like(source)
    return 2 * size / watch.seconds(lambda: target.copy_(source), max(5, rounds))


class Endless:
    """A tokenizer without an end token."""

    eos_token_id = -1

    def __init__(self, tokenizer: Any) -> None:
        self.encode, self.decode = tokenizer.encode, tokenizer.decode


def decode(session: Session, size: Size, watch: Watch) -> Figures:
    """Decode steps of the own sampler with log-probs and entropies, all rows at once, against the time that reading
    weights, keys and values once takes at the bandwidth of a copy; also as a share of the data sheet's bandwidth."""
    engine = cast(TorchEngine, session.engine)
    engine.forget()
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(size.shape.vocab_size, (size.rows, size.context), generator=generator).tolist()
    sampling = Sampling(max_new_tokens=size.new, temperature=1.0, entropies=True)
    requests = [GenerateRequest(tuple(prompt), sampling, number) for number, prompt in enumerate(prompts)]
    sampler = Sampler(engine.model, Endless(engine.tokenizer))

    def joined() -> None:
        sampler.clear()
        sampler.admit(requests)

    prefill = watch.seconds(joined, 1)
    steps = sorted(watch.once(sampler.draw) for _ in range(size.new))
    taken = steps[len(steps) // 2]
    sampler.clear()
    width = next(cast(nn.Module, engine.model).parameters()).element_size()
    read = decode_bytes(size.shape, size.rows, size.context + size.new // 2, width=width)
    bandwidth = copy_bandwidth(watch, 1 << (32 if watch.device.type == "cuda" else 26), size.rounds)
    return {
        "rows": size.rows,
        "context": size.context,
        "prefill_seconds": prefill,
        "step_seconds": taken,
        "tokens_per_second": size.rows / taken,
        "bytes_per_step": read,
        "copy_bytes_per_second": bandwidth,
        "share_of_bound": read / bandwidth / taken,
        "share_of_data_sheet": share_of_data_sheet(read / taken, watch.name),
    }


def share_of_data_sheet(bytes_per_second: float, device: str) -> float | None:
    """The share of the memory's bandwidth by its data sheet; None for a device that is not known."""
    peak = next((peak for part, peak in BANDWIDTHS if part.lower() in device.lower()), None)
    return None if peak is None else bytes_per_second / peak


class Waiting(Clock):
    """A clock whose phases end when the device is done with them."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        with super().__call__(phase):
            yield
            self.watch.wait()


def steps(session: Session, size: Size, watch: Watch) -> Figures:
    """Whole RL steps as the loop makes them, with AEM and without in turns after one that warms up: mean seconds of
    each phase, and its share."""
    session.clock = Waiting(watch)
    session.push_weights()
    found: Figures = {}
    rl_step(session, 0)
    session.clock.take()
    kinds = {"with AEM": True, "without": False}
    taken: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    plain = session.config
    number = 0
    for _ in range(size.rounds):
        for kind in kinds if number % 4 else reversed(kinds):
            number += 1
            session.config = replace(plain, aem=replace(plain.aem, enabled=kinds[kind]))
            metrics = rl_step(session, number)
            taken[kind].append(session.clock.take())
            found["turns"] = round(float(metrics["turns_mean"]) * 128)
    session.config = plain
    for kind, rounds in taken.items():
        phases = {name.removeprefix("seconds_"): [r[name] for r in rounds] for name in rounds[0]}
        means = {name: sum(values) / len(values) for name, values in phases.items()}
        total = sum(means.values())
        shares = {name: value / total for name, value in means.items()}
        found[kind] = {"seconds": total, "phase_seconds": means, "phase_shares": shares}
    return found
