"""What an engine said it sampled must be possible: looked at once per batch, before anything is computed from it."""

import torch
from torch import Tensor

from trainer.batch import Batch, BatchError


def check_sampled(batch: Batch, vocab_size: int) -> None:
    """Raise `BatchError` for token ids that the model does not have, or log-probs and entropies that are not finite."""
    check_ids(batch.tokens, vocab_size)
    for what, values in (("log-probs", batch.old_logprobs), ("entropies", batch.entropies)):
        if values is not None and not bool(torch.isfinite(values).all()):
            raise BatchError(
                f"the engine recorded {what} that are not finite numbers: nothing was trained on them; it has "
                "computed with broken weights, or overflowed (try another rollout.engine, or its option dtype=float32)"
            )


def check_ids(tokens: Tensor, vocab_size: int) -> None:
    """Raise `BatchError` for a token id that lies outside the vocabulary of the model that is trained."""
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= vocab_size:
        raise BatchError(
            f"the engine answered with token id {low if low < 0 else high}, outside the vocabulary of {vocab_size}: it "
            "samples from another model, or none; name one that loads the run's model (rollout.engine)"
        )
