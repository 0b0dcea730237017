"""The reference policy: the model as RL began, frozen. KL terms are measured from it.

It is loaded from the run's own folder, never copied from the model in memory, so that a resumed run measures from the
same weights as one that ran through.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainer import lora
from trainer.batch import Batch
from trainer.checkpoints import STAGES
from trainer.errors import CheckpointError
from trainer.kl import kl_estimate
from trainer.passes import Rows, parts
from trainer.policy import Policy
from trainer.resources import counted_flops
from trainer.world import ALONE, World

if TYPE_CHECKING:
    from trainer.session import Session


class Reference:
    """A policy that gives log-probs and is never trained.

    policy: the frozen model under its training interface, however it is wrapped. within: a context in which it *is*
    the reference, such as one that turns a model's adapters off.
    """

    def __init__(self, policy: Policy, within: Callable[[], AbstractContextManager[object]] = nullcontext) -> None:
        self.policy = policy
        self.within = within

    @torch.no_grad()
    def score(
        self,
        batch: Batch,
        temperature: float,
        max_tokens: int,
        world: World = ALONE,
        metrics: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """log π_ref of the response tokens, nats: float32 [N]; at most `max_tokens` tokens per forward pass. The
        processes of `world` share the passes. What they cost is added to `flops_score` of `metrics`."""
        logprobs, cost = Rows(len(batch.targets)), {} if metrics is None else metrics
        with self.within():
            for part, counts in parts(batch, max_tokens, world):
                with counted_flops(self.policy.model, part.batch, "flops_score", cost, backward=False):
                    said = self.policy(part.batch, temperature)
                logprobs.add(part.targets, said.logprobs, counts)
        return logprobs.of_all(world)


def reference_metrics(logprobs: Tensor, ref_logprobs: Tensor) -> dict[str, Tensor]:
    """`kl_reference`: how far the policy that sampled is from the reference, the mean over tokens of k3, nats."""
    return {"kl_reference": kl_estimate(logprobs, ref_logprobs).mean()}


def make_reference(session: "Session") -> Reference | None:
    """The reference of a run that has begun RL, from its folder `warmstart`; None where no KL term asks for one.

    Where adapters are trained and there was no warm start, the model without them is the reference: no second one is
    loaded.

    Raises:
        CheckpointError: the folder is gone, and the run has trained since.
    """
    config, folder = session.config, session.folder.path / "warmstart"
    if not (config.algorithm.kl_coefficient or config.algorithm.kl_reward):
        return None
    if config.scale.lora_rank and not (config.warmstart.steps or config.warmstart.explore_steps):
        return Reference(session.learner.policy, partial(lora.adapters_off, session.model))
    if not session.world.only_first(folder.is_dir):  # what follows is done by all or by none
        if session.progress.step and STAGES[session.progress.stage] == "rl":
            raise CheckpointError(
                f"{folder} is missing: it holds the model as RL began, which KL terms are measured from; put it back, "
                "or train anew"
            )
        session.export_start()
    return Reference(session.weights.frozen(folder))
