"""The model as training calls it: one forward pass that gives log-probs, entropies, and the states a critic reads.

It is a module of its own so that what is wrapped around a model for training (sharding, mixed precision) wraps this one
call, head included, and nothing else of the trainer has to know.
"""

from typing import Literal, NamedTuple, cast

from torch import Tensor, cat, nn
from torch.nn.functional import cross_entropy

from aem_agent.model.interface import BareHead, LanguageModel
from trainer.batch import Batch
from trainer.head import KEEP, linear_logprobs, linear_logprobs_and_entropy
from trainer.losses import chunked_logprobs_and_entropy, token_logprobs_and_entropy

LOGITS_IN_ONE_PIECE = KEEP
"""Logits (tokens × vocabulary) up to which a head that is more than a weight runs at once; beyond, in chunks that are
computed again in the backward pass."""

Level = Literal["turn", "token"]
"""Whether a critic values the state before each response, or before each response token."""


class Said(NamedTuple):
    """What the model says of a batch."""

    logprobs: Tensor
    """Float[N], log π of the response tokens, nats."""
    entropies: Tensor
    """Float[N], full-vocabulary entropies of the distributions they were drawn from, nats."""
    states: Tensor
    """Float[V, d], hidden states where a critic reads; none where it was not asked for."""


def value_positions(batch: Batch, level: Level) -> Tensor:
    """Positions in `tokens` where the critic reads: [R] ends of prompts, or [N] the places before response tokens."""
    return batch.prompt_ends if level == "turn" else batch.targets - 1


class Policy(nn.Module):
    """A language model under its training interface."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = cast(nn.Module, model)

    def forward(self, batch: Batch, temperature: float, level: Level | None = None) -> Said:
        """Log-probs and entropies of the response tokens at `temperature`; the last layer computes no other states than
        those that predict them, and those that a critic reads at `level`."""
        model = cast(LanguageModel, self.model)
        predicting = batch.targets - 1
        valued = predicting[:0] if level is None else value_positions(batch, level)
        hidden = model.hidden(batch.tokens, batch.cu_seqlens, at=cat([predicting, valued]))
        rows, states = hidden[: len(predicting)], hidden[len(predicting) :].clone()  # FSDP2 warns of views
        weight = model.head_weight if isinstance(model, BareHead) else None
        if weight is not None:
            return Said(*linear_logprobs_and_entropy(rows, weight, batch.labels, temperature), states)
        if len(rows) * model.vocab_size <= LOGITS_IN_ONE_PIECE:
            return Said(*token_logprobs_and_entropy(model.head(rows), batch.labels, temperature), states)
        return Said(*chunked_logprobs_and_entropy(rows, model.head, batch.labels, temperature), states)

    def states_at(self, tokens: Tensor, cu_seqlens: Tensor, at: Tensor) -> Tensor:
        """Hidden states Float[P, d] of the tokens `at` (Long[P]) of packed sequences, without any log-probs."""
        return cast(LanguageModel, self.model).hidden(tokens, cu_seqlens, at=at)

    def cross_entropies(self, tokens: Tensor, cu_seqlens: Tensor, at: Tensor) -> Tensor:
        """−log π, nats, of the token after each of the tokens `at` (Long[P]) of packed sequences: Float[P]."""
        model = cast(LanguageModel, self.model)
        rows, labels = model.hidden(tokens, cu_seqlens, at=at), tokens[at + 1]
        weight = model.head_weight if isinstance(model, BareHead) else None
        if weight is not None:
            return -linear_logprobs(rows, weight, labels)
        if len(rows) * model.vocab_size <= LOGITS_IN_ONE_PIECE:
            return cross_entropy(model.head(rows).float(), labels, reduction="none")
        return -chunked_logprobs_and_entropy(rows, model.head, labels)[0]
