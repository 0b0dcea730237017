"""Behaviour cloning before RL: cross-entropy on the expert's actions, in one or two stages.

    loss = −(1/N) Σ_k log π(a_k | what the prompt shows, a_<k)      over the marked targets of a minibatch

The optional second stage clones demonstrations with many random actions as targets: a weak start whose entropy is high,
which is where entropy modulation has something to do.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainer.batch import Batch
from trainer.checkpoints import STAGES
from trainer.demonstrations import bucketed, play_experts, read_recorded
from trainer.gradients import add_up, backward, clip
from trainer.metrics import require_finite
from trainer.minibatches import divided
from trainer.policy import Policy
from trainer.world import ALONE, World

if TYPE_CHECKING:
    from trainer.session import Session

LOG_EVERY = 10
"""Optimiser steps per metrics record."""


def warm_start(session: "Session") -> None:
    """Run the stages that are not done yet, then enter RL."""
    config = session.config.warmstart
    for stage, steps in enumerate((config.steps, config.explore_steps)):
        if session.progress.stage > stage:
            continue
        if session.progress.step < steps:
            clone(session, stage, steps)
            session.finish_stage()
        session.begin_stage(stage + 1)
        session.save()
        session.stop_if_asked()


def clone(session: "Session", stage: int, steps: int) -> None:
    """One stage: minibatches of demonstrations until `steps` optimiser steps are done."""
    config, learner, name = session.config.warmstart, session.learner, STAGES[stage]
    with session.clock("demonstrations"):
        batch = session.world.only_first(lambda: demonstrations(session, stage))
    losses = session.unlogged
    with session.clock(name), session.reporter.steps(name, steps, session.progress.step) as advance:
        for step, sequences in enumerate(_endless(session, batch, session.progress.step), session.progress.step):
            if step >= steps:
                break
            for group in learner.optimiser.param_groups:
                group["lr"] = learning_rate(step, steps, config.lr, config.warmup)
            ((mine, counts),) = divided(batch, [sequences], None, session.world)
            loss_of_step = clone_step(
                learner.policy,
                learner.optimiser,
                batch.select(mine).batch.to(session.device),
                context_weight=config.context_weight,
                world=session.world,
                counts=counts,
            )
            losses.append(loss_of_step)
            save = (step + 1) % config.save_every == 0
            if (step + 1) % LOG_EVERY == 0 or save or step + 1 == steps:
                loss = torch.stack(losses).mean()
                require_finite({"loss": loss}, "the last steps")
                session.log.write(name, stage, step + 1, {"loss": loss})
                losses.clear()
                advance(step + 1, f"loss {float(loss):.3f}")
            session.finish_clone_step(stage, step + 1)
            if save:  # after a record, so that a resumed run averages over the same steps
                session.save()
            if step + 1 < steps:
                session.stop_if_asked()


def demonstrations(session: "Session", stage: int) -> Batch:
    """The stage's packed demonstrations: recorded ones if the recipe names a file, else an expert's."""
    config, name = session.config.warmstart, f"{STAGES[stage]}: demonstrations"
    explore = STAGES[stage] == "explore"
    if config.data is not None and not explore:
        with session.reporter.phase(name):
            return read_recorded(session.agent, Path(config.data))
    seed = session.seed(STAGES[stage])
    with session.reporter.steps(name, config.explore_games if explore else config.games) as played:

        def told(games: int, note: str) -> None:
            session.stop_here()  # nothing of the demonstrations is kept: what was saved before is
            played(games, note)

        return play_experts(session.agent, session.pools, explore=explore, seed=seed, played=told)


def clone_step(
    policy: Policy,
    optimiser: torch.optim.Optimizer,
    part: Batch,
    *,
    context_weight: float = 0.0,
    grad_clip: float = 1.0,
    world: World = ALONE,
    counts: bool = True,
) -> Tensor:
    """One optimiser step on all sequences of `part`; returns the mean loss per target, nats.

    `part` is this process's share; of one that does not count it only keeps step with the others.

    With `context_weight`, that share of the mean loss per token that is no target (task, observations) is added.
    """
    at = part.targets - 1
    if context_weight:
        other = torch.ones(len(part.tokens), dtype=torch.bool, device=at.device)
        other[part.targets] = False
        other[part.cu_seqlens[:-1]] = False  # nothing comes before a sequence's first token
        at = torch.cat([at, other.nonzero().squeeze(1) - 1])
    every = policy.cross_entropies(part.tokens, part.cu_seqlens, at) * counts
    n = len(part.targets)
    of_all = [sum(found) for found in zip(*world.gather((n * counts, (len(at) - n) * counts)))]
    loss = every[:n].sum() / of_all[0]
    total = loss + context_weight * (every[n:].sum() / of_all[1]) if context_weight else loss
    backward(total, policy.parameters(), world)
    add_up(policy.parameters(), (), world)
    clip(policy.parameters(), grad_clip)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return world.sum(loss.detach().clone())


def learning_rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """Linear rise over the first `warmup` share of the steps, then a cosine from `peak` to a tenth of it."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return peak * (step + 1) / rise
    done = (step - rise) / max(1, steps - rise)
    return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def _endless(session: "Session", batch: Batch, start: int) -> Iterator[Tensor]:
    """Minibatches number `start` …, pass after pass; each pass depends on its number only."""
    number, turn = 0, 0
    while True:
        generator = session.generator(f"pass {STAGES[session.progress.stage]}", turn)
        for sequences in bucketed(batch, session.config.warmstart.tokens_per_step, generator):
            if number >= start:
                yield sequences
            number += 1
        turn += 1
