"""What the models say of a batch: log-probs and entropies of the response tokens, and a critic's values.

The sampler of this project records log-probs and full-vocabulary entropies as it draws, equal to a forward pass over
the same weights, so scoring needs no forward pass then. Engines that return neither get one; those that return
log-probs alone, as vLLM does, get one for the entropies.

Recorded log-probs are never replaced: they are those of the policy that sampled, which the loss's ratio is against,
also where that policy is some updates old. Entropies that were not recorded are the present policy's.

With `algorithm.mismatch` the log-probs are computed again all the same: the ratio is then against the present policy,
and what was recorded only weighs tokens (`trainer.mismatch`). AEM keeps the entropies of the policy that sampled; those
of the present one, known from the same pass, are `own_entropies`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from trainer.advantages import Signals
from trainer.advantages.gigpo import number_anchors
from trainer.aem import Proxy, uncertainty_of
from trainer.batch import Batch, BatchError, Outcomes
from trainer.mismatch import Mismatch, mismatch_metrics, mismatch_weights
from trainer.parity import PARITY, parity
from trainer.passes import Rows, parts
from trainer.policy import Level, Policy
from trainer.reference import Reference, reference_metrics
from trainer.resources import counted_flops
from trainer.staleness import fresh_tokens
from trainer.world import ALONE, World

SCORING_TOKENS = 65_536
"""Tokens per forward pass without gradients, unless the recipe asks for fewer."""


@dataclass(frozen=True)
class Scores:
    """Scores of the policy that sampled, constants for autograd (entropies: see the head of the module)."""

    logprobs: Tensor
    """float32 [N], log π of the sampled tokens, nats."""
    entropies: Tensor
    """float32 [N], full-vocabulary token entropies, nats."""
    values: Tensor | None = None
    """float32 [R] or [N], the critic's values at `value_positions`, in scaled returns."""
    final_values: Tensor | None = None
    """float32 [E], its value of the last state."""
    fresh: Tensor | None = None
    """bool [N], tokens that the present weights sampled; None: all."""
    parity_limit: float = PARITY
    """How far those tokens' log-probs may be from the trainer's, nats."""
    reference: Tensor | None = None
    """float32 [N], log π_ref of the sampled tokens, nats; None without a reference."""
    importance: Tensor | None = None
    """float32 [N], weights of the tokens in the policy loss for the mismatch of sampler and trainer; None: 1."""
    metrics: dict[str, Tensor] = field(default_factory=dict)
    """Of reference and mismatch, where there are any."""
    own_entropies: Tensor | None = None
    """float32 [N], entropies of the policy that `logprobs` are of, where `mismatch` makes it another one than that of
    `entropies`; None: the same."""


class Critic(nn.Module):
    """Value of a state: a two-layer head on the policy's hidden state at the end of the prompt.

    It reads that state without sending gradients into the policy, so PPO's policy update stays the one of the other
    estimators and no loss weight has to balance the two. The last layer starts at zero: value 0 everywhere.
    """

    def __init__(self, hidden_size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.inner = nn.Linear(hidden_size, 2 * hidden_size)
        self.outer = nn.Linear(2 * hidden_size, 1)
        nn.init.zeros_(self.inner.bias)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)
        with torch.no_grad():
            self.inner.weight.copy_(torch.randn(self.inner.weight.shape, generator=generator) * hidden_size**-0.5)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states [n, d] → values [n]."""
        values: Tensor = self.outer(torch.nn.functional.gelu(self.inner(hidden.detach().float()))).squeeze(-1)
        return values


@torch.no_grad()
def score(
    policy: Policy,
    batch: Batch,
    *,
    temperature: float,
    critic: Critic | None = None,
    level: Level = "turn",
    final_prompts: Sequence[Sequence[int]] = (),
    max_tokens: int | None = None,
    version: int | None = None,
    parity_limit: float = PARITY,
    world: World = ALONE,
    reference: Reference | None = None,
    mismatch: Mismatch = "none",
    mismatch_cap: float | None = None,
) -> Scores:
    """Scores of the sampling policy; runs the model only for what the sampler did not record, for a critic, and with
    `mismatch`.

    `version` is that of the present weights; None: they sampled everything. The processes of `world` share the passes.

    Raises:
        BatchError: log-probs are missing, and weights that are gone have sampled some of the tokens, or `mismatch` is
            to compare with them.
        ParityError: log-probs that were recorded under the present weights differ from those of the forward pass.
    """
    fresh = fresh_tokens(batch, version)
    _require_recorded(batch, fresh, mismatch)
    room = max_tokens or SCORING_TOKENS
    recorded = batch.old_logprobs if mismatch == "none" else None
    complete = recorded is not None and batch.entropies is not None and critic is None
    logprobs, entropies = Rows(len(batch.targets)), Rows(len(batch.targets))
    values = Rows(batch.n_responses if level == "turn" else len(batch.targets))
    metrics: dict[str, Tensor] = {}
    for part, counts in [] if complete else parts(batch, room, world):
        with counted_flops(policy.model, part.batch, "flops_score", metrics, backward=False):
            said = policy(part.batch, temperature, level if critic is not None else None)
        if critic is not None:
            values.add(part.responses if level == "turn" else part.targets, critic(said.states), counts)
        logprobs.add(part.targets, said.logprobs, counts)
        entropies.add(part.targets, said.entropies, counts)
    if recorded is None:
        recorded = logprobs.of_all(world)
    elif batch.entropies is None:
        parity(logprobs.of_all(world), recorded, fresh, parity_limit)
    scores = Scores(
        recorded,
        entropies.of_all(world) if batch.entropies is None else batch.entropies,
        values.of_all(world) if critic is not None else None,
        _last_values(policy, critic, final_prompts, room, world) if critic is not None and final_prompts else None,
        fresh if mismatch == "none" else None,  # scored anew: all by the present weights
        parity_limit,
        metrics=metrics,
        own_entropies=None if mismatch == "none" or batch.entropies is None else entropies.of_all(world),
    )
    if reference is not None:
        ref = reference.score(batch, temperature, room, world, metrics)
        scores = replace(scores, reference=ref, metrics=metrics | reference_metrics(scores.logprobs, ref))
    return scores if mismatch == "none" else _weighed(scores, batch, mismatch, mismatch_cap)


def _require_recorded(batch: Batch, fresh: Tensor | None, mismatch: Mismatch) -> None:
    """Raise `BatchError` where log-probs are missing that no forward pass of the present weights can give."""
    if batch.old_logprobs is None and mismatch != "none":
        raise BatchError("the engine records no log-probs to compare with: set algorithm.mismatch=none")
    if batch.old_logprobs is None and fresh is not None:
        raise BatchError(
            "the engine records no log-probs, and they cannot be computed any more for what earlier weights sampled: "
            "set rollout.staleness=0, or take another engine"
        )


def _weighed(scores: Scores, batch: Batch, kind: Mismatch, cap: float | None) -> Scores:
    """The scores with each token's importance, from what the sampler recorded."""
    assert batch.old_logprobs is not None  # refused above
    sampled, span = batch.old_logprobs, batch.span_index
    weights = mismatch_weights(scores.logprobs, sampled, span, batch.n_responses, kind=kind, cap=cap)
    metrics = scores.metrics | mismatch_metrics(weights, scores.logprobs, sampled)
    return replace(scores, importance=weights, metrics=metrics)


def signals(batch: Batch, outcomes: Outcomes, scores: Scores) -> Signals:
    """Batch, outcomes and scores as advantage estimators take them."""
    return Signals(
        returns=outcomes.returns,
        rewards=outcomes.rewards,
        episode_index=batch.episode_index,
        group_of_episode=outcomes.group_of_episode,
        n_groups=int(outcomes.group_of_episode.max()) + 1,
        terminated=outcomes.terminated,
        span_index=batch.span_index,
        values=scores.values,
        final_values=scores.final_values,
        anchor_index=torch.tensor(
            number_anchors(outcomes.anchors, batch.group_index.tolist()), device=batch.group_index.device
        ),
        uncertainty=uncertainty(batch, scores, "mean_token_entropy"),
        reference_kl=None if scores.reference is None else scores.logprobs - scores.reference,
    )


def uncertainty(batch: Batch, scores: Scores, proxy: Proxy) -> Tensor:
    """What AEM takes for each response's uncertainty: [R], nats."""
    return uncertainty_of(proxy, scores.logprobs, scores.entropies, batch.span_index, batch.n_responses)


def _last_values(
    policy: Policy, critic: Critic, prompts: Sequence[Sequence[int]], max_tokens: int, world: World
) -> Tensor:
    """The critic's values [E] at the end of the prompts that would have come next."""
    device = next(policy.parameters()).device
    chunks: list[list[int]] = [[]]
    room = max_tokens
    for number, prompt in enumerate(prompts):
        if chunks[-1] and len(prompt) > room:
            chunks.append([])
            room = max_tokens
        chunks[-1].append(number)
        room -= len(prompt)
    values = Rows(len(prompts))
    for first in range(0, len(chunks), world.size):  # every process makes as many passes
        counts = first + world.rank < len(chunks)
        chunk = chunks[first + world.rank] if counts else chunks[0]
        flat = torch.tensor([token for number in chunk for token in prompts[number]], device=device)
        cu = torch.tensor([0, *(len(prompts[number]) for number in chunk)], device=device).cumsum(0)
        values.add(torch.tensor(chunk, device=device), critic(policy.states_at(flat, cu, cu[1:] - 1)), counts)
    return values.of_all(world)
