"""How far an update moved the response entropy, beside what the theory behind AEM predicts of it.

Theory: under a natural-gradient step on a response a drawn in state s, dH_resp(s) = A·(S − H_resp), with the surprisal
S = −log π(a|s). The loss's gradient is Σ_i c_i·A'_i·∇log π(a_i|s_i), c_i being the weight of a token of response i. For
a policy that is free in every state, the natural gradient of Σ_i c_i·A'_i·log π(a_i|s_i) / Σ_i c_i, with a Fisher
matrix in which states weigh as the c_i, moves the mean entropy Σ_i c_i·H_i / Σ_i c_i by

    predicted = Σ_i c_i·A'_i·(S_i − H_i) / Σ_i c_i          nats per response and unit step

Along one sampled response H_i is known as Σ_k H_k, the entropies of its tokens (chain rule). So what is computed is

    Σ_i c_i Σ_k A'_k·(S_k − H_k) / Σ_i c_i                   S_k = −log π(a_k | s, a_<k)

which for one advantage per token is right too, each token being an action of its own. It leaves out that an early token
decides how much entropy is still to come: it predicts the drift with the prefixes held as often as they were.

Measured after the update, on the same responses, with new log-probs (π') and entropies (H'), place by place:

    measured        Σ_k [ Σ_i c_i·ρ_ik·H'_ik / Σ_i c_i·ρ_ik ] − Σ_i c_i·H_i / Σ_i c_i
                    ρ_ik = Π_{j<k} π'(a_j)/π(a_j), at most `RATIO_CAP`; one that has ended keeps its last ρ, with H' = 0
    same prefixes   the same with ρ = 1: the part that the prediction is of, with less variance

ρ makes prefixes of the old policy stand for the new one's, so `measured` estimates the change of H_resp itself. It is
normalised place by place: plain Σ ρ·H' would be unbiased for a new policy that does not depend on these responses, but
it was made from them, and where most were punished all ρ are below 1, and entropy would seem to fall though it rises.
Normalised, it is consistent, with a bias of order 1/n, and the cap's; what is left of the dependence makes either
figure larger in size than on fresh responses of the same states. Its variance grows with the length of responses and
the size of the update.

A' are the advantages of the policy loss: after α, and times `algorithm.mismatch`'s weights of tokens. KL loss and
entropy bonus are left out of predicted; in what is measured they act. predicted is per unit step of a natural gradient;
an Adam step has no such factor, shares parameters over states, and clips. So compare signs, and the correlation over
steps, never sizes. With stale rollouts the old values are those of the policy that sampled, and the measured drift is
that since then; with `algorithm.mismatch` they are the present policy's before the update. (An engine that records
stale log-probs and no entropies mixes the two: set `mismatch`.)

Source of the theory: arXiv 2605.00425; the estimates are this project's.
"""

import torch
from torch import Tensor

from trainer.batch import Batch
from trainer.config import TrainConfig
from trainer.minibatches import micro_batches
from trainer.policy import Policy
from trainer.scoring import SCORING_TOKENS, Scores
from trainer.tensors import segment_mean
from trainer.update import Plan

RATIO_CAP = 10.0
"""Largest ratio of prefixes: one wild response must not be the mean."""


def predicted_drift(
    logprobs: Tensor, entropies: Tensor, advantages: Tensor, weights: Tensor, span_index: Tensor, n_responses: int
) -> Tensor:
    """Σ_i c_i Σ_k A'_k·(S_k − H_k) / Σ_i c_i: scalar, nats per response and unit natural-gradient step.

    logprobs, entropies of the policy that sampled, advantages (after α) and loss weights: all [tokens], with span_index
    [tokens] token → response. c_i is the mean weight of the response's tokens; no weight at all gives 0.
    """
    return _mean_over_responses(advantages * (-logprobs - entropies), weights, span_index, n_responses)


def measured_drift(
    logprobs: Tensor,
    entropies: Tensor,
    new_logprobs: Tensor,
    new_entropies: Tensor,
    weights: Tensor,
    span_index: Tensor,
    n_responses: int,
    *,
    cap: float = RATIO_CAP,
) -> Tensor:
    """`measured` of the module's docstring: scalar, nats per response; 0 where there is no weight. All [tokens]; tokens
    of a response must be adjacent and in order. With the old log-probs as the new ones ρ = 1: at the same prefixes.

    Takes memory for responses × longest response, and waits for the device once.
    """
    place = places(span_index)
    shape = (n_responses, int(place.max()) + 1 if len(place) else 0)

    def spread(values: Tensor) -> Tensor:
        return values.new_zeros(shape).index_put((span_index, place), values)

    log_ratio = spread(new_logprobs - logprobs)
    ratio = (log_ratio.cumsum(1) - log_ratio).exp().clamp_max(cap)
    share = ratio * segment_mean(weights, span_index, n_responses)[:, None]
    new = (share * spread(new_entropies)).sum(0) / share.sum(0).clamp_min(torch.finfo(share.dtype).tiny)
    return new.sum() - _mean_over_responses(entropies, weights, span_index, n_responses)


def places(span_index: Tensor) -> Tensor:
    """Of each token in its response, from 0: int64 [tokens]. Tokens of a response must be adjacent."""
    token = torch.arange(len(span_index), device=span_index.device)
    first = torch.ones_like(span_index, dtype=torch.bool)
    first[1:] = span_index[1:] != span_index[:-1]
    return token - torch.where(first, token, 0).cummax(0).values


def _mean_over_responses(values: Tensor, weights: Tensor, span_index: Tensor, n_responses: int) -> Tensor:
    """Σ_i c_i Σ_k v_k / Σ_i c_i with c_i the mean weight of response i's tokens; 0 where there is no weight."""
    per_response = segment_mean(weights, span_index, n_responses)
    total = per_response.sum()
    return (per_response[span_index] * values).sum() / torch.where(total > 0, total, 1)


def chosen(batch: Batch, keep: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Sequences int64 [S'], drawn at random, that hold about `count` responses with `keep` (bool [R]) together: as many
    sequences as hold so many on average, at least one, if any holds one. How many does not depend on which are drawn,
    so long episodes are drawn as often as short ones. Responses of one sequence cost one forward pass."""
    kept = torch.bincount(batch.sequence_index[keep], minlength=batch.n_sequences).cpu()
    order = torch.nonzero(kept).squeeze(1)
    if count < 1 or not len(order):
        return order[:0]
    held = int(kept.sum())
    number = max(1, (2 * count * len(order) + held) // (2 * held))  # rounded
    return order[torch.randperm(len(order), generator=generator)[:number]]


@torch.no_grad()
def entropy_drift(
    policy: Policy, batch: Batch, scores: Scores, plan: Plan, config: TrainConfig, generator: torch.Generator
) -> dict[str, Tensor]:
    """`entropy_drift_predicted`, `entropy_drift_measured` and `entropy_drift_same_prefixes` of the update that `policy`
    has behind it, over about `metrics.drift_responses` responses that took part in it; nats per response.

    One forward pass over the sequences that hold them. Nothing where that setting is 0, or where no response took part.
    Processes that train together call it alike: it asks the same forward passes of each.
    """
    sequences = chosen(batch, plan.keep, config.metrics.drift_responses, generator)
    if not len(sequences):
        return {}
    sequences = sequences.sort().values
    limit = config.optimiser.micro_tokens or SCORING_TOKENS
    parts = [batch.select(s.to(batch.tokens.device)) for s in micro_batches(batch, sequences, limit)]
    said = [policy(part.batch, config.rollout.temperature) for part in parts]
    rows = torch.cat([part.targets for part in parts])
    of_old = scores.entropies if scores.own_entropies is None else scores.own_entropies
    old, entropies = scores.logprobs[rows], of_old[rows]
    new, new_entropies = torch.cat([s.logprobs for s in said]), torch.cat([s.entropies for s in said])
    weights = torch.where(plan.keep[batch.span_index[rows]], plan.weights[rows], 0)
    advantages = plan.advantages[rows]
    if scores.importance is not None:
        advantages = advantages * scores.importance[rows]  # as in the loss
    numbers, spans = torch.unique_consecutive(batch.span_index[rows], return_inverse=True)
    n = len(numbers)
    return {
        "entropy_drift_predicted": predicted_drift(old, entropies, advantages, weights, spans, n),
        "entropy_drift_measured": measured_drift(old, entropies, new, new_entropies, weights, spans, n),
        "entropy_drift_same_prefixes": measured_drift(old, entropies, old, new_entropies, weights, spans, n),
    }
