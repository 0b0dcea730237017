"""What the models say of a batch: log-probs and entropies of the response tokens, and a critic's values.

The sampler of this project records log-probs and full-vocabulary entropies as it draws, equal to a forward pass over
the same weights, so scoring needs no forward pass then. Engines that return neither get one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from aem_agent.model.interface import LanguageModel
from trainer.advantages import Signals
from trainer.aem import Proxy, mean_token_entropy, mean_token_surprisal
from trainer.batch import Batch, Outcomes
from trainer.losses import chunked_logprobs_and_entropy, token_logprobs_and_entropy
from trainer.minibatches import micro_batches

LOGITS_IN_ONE_PIECE = 16_777_216
"""Logits (tokens × vocabulary) up to which the head runs at once; beyond, in chunks recomputed in the backward pass."""

SCORING_TOKENS = 65_536
"""Tokens per forward pass without gradients, unless the recipe asks for fewer."""


@dataclass(frozen=True)
class Scores:
    """Scores of the policy that sampled, constants for autograd."""

    logprobs: Tensor
    """float32 [N], log π of the sampled tokens, nats."""
    entropies: Tensor
    """float32 [N], full-vocabulary token entropies, nats."""
    values: Tensor | None = None
    """float32 [R] or [N], the critic's values at `value_positions`, in scaled returns."""
    final_values: Tensor | None = None
    """float32 [E], its value of the last state."""


Level = Literal["turn", "token"]
"""Whether a critic values the state before each response, or before each response token."""


def value_positions(batch: Batch, level: Level) -> Tensor:
    """Positions in `tokens` where the critic reads: [R] ends of prompts, or [N] the places before response tokens."""
    return batch.prompt_ends if level == "turn" else batch.targets - 1


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


def states(model: LanguageModel, batch: Batch, level: Level | None) -> tuple[Tensor, Tensor]:
    """Hidden states that predict the response tokens [N, d], and those a critic reads (none where `level` is None): the
    last layer computes no others."""
    predicting = batch.targets - 1
    valued = predicting[:0] if level is None else value_positions(batch, level)
    hidden = model.hidden(batch.tokens, batch.cu_seqlens, at=torch.cat([predicting, valued]))
    return hidden[: len(predicting)], hidden[len(predicting) :]


def response_scores(model: LanguageModel, batch: Batch, rows: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies [N] of the response tokens from the hidden states [N, d] that predict them."""
    if len(rows) * model.vocab_size <= LOGITS_IN_ONE_PIECE:
        return token_logprobs_and_entropy(model.head(rows), batch.labels, temperature)
    return chunked_logprobs_and_entropy(rows, model.head, batch.labels, temperature)


@torch.no_grad()
def score(
    model: LanguageModel,
    batch: Batch,
    *,
    temperature: float,
    critic: Critic | None = None,
    level: Level = "turn",
    final_prompts: Sequence[Sequence[int]] = (),
    max_tokens: int | None = None,
) -> Scores:
    """Scores of the sampling policy; runs the model only for what the sampler did not record, and for a critic."""
    if batch.old_logprobs is not None and batch.entropies is not None and critic is None:
        return Scores(batch.old_logprobs, batch.entropies)
    logprobs, entropies, values = [], [], []
    for sequences in micro_batches(batch, torch.arange(batch.n_sequences), max_tokens or SCORING_TOKENS):
        part = batch.select(sequences.to(batch.tokens.device)).batch
        hidden, valued = states(model, part, level if critic is not None else None)
        if critic is not None:
            values.append(critic(valued))
        if batch.old_logprobs is None or batch.entropies is None:
            pair = response_scores(model, part, hidden, temperature)
            logprobs.append(pair[0])
            entropies.append(pair[1])
    return Scores(
        torch.cat(logprobs) if batch.old_logprobs is None else batch.old_logprobs,
        torch.cat(entropies) if batch.entropies is None else batch.entropies,
        torch.cat(values) if critic is not None else None,
        _last_values(model, critic, final_prompts, max_tokens or SCORING_TOKENS) if critic is not None else None,
    )


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
    )


def uncertainty(batch: Batch, scores: Scores, proxy: Proxy) -> Tensor:
    """What AEM takes for each response's uncertainty: [R], nats."""
    if proxy == "mean_token_entropy":
        return mean_token_entropy(scores.entropies, batch.span_index, batch.n_responses)
    return mean_token_surprisal(scores.logprobs, batch.span_index, batch.n_responses)


def _last_values(model: LanguageModel, critic: Critic, prompts: Sequence[Sequence[int]], max_tokens: int) -> Tensor:
    """The critic's values [E] at the end of the prompts that would have come next."""
    values: list[Tensor] = []
    chunk: list[Sequence[int]] = []
    room = max_tokens
    for prompt in [*prompts, None]:
        if chunk and (prompt is None or len(prompt) > room):
            flat = torch.tensor([token for ids in chunk for token in ids], device=model.device)
            cu = torch.tensor([0, *(len(ids) for ids in chunk)], device=model.device).cumsum(0)
            values.append(critic(model.hidden(flat, cu, at=cu[1:] - 1)))
            chunk, room = [], max_tokens
        if prompt is not None:
            chunk.append(prompt)
            room -= len(prompt)
    return torch.cat(values)
