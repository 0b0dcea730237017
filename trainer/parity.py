"""Sampler and trainer must agree on the log-probs of what was sampled, as long as they have the same weights."""

from typing import Any

import torch
from torch import Tensor, nn

from aem_agent.model.interface import LanguageModel
from aem_agent.types import TokenEngine
from trainer.errors import ParityError
from trainer.world import ALONE, World

PARITY = 1e-3
"""Largest difference of log-probs between sampler and trainer, nats, in float32."""

PARITY_HALF = 0.5
"""The same in half precision, where batching alone moves log-probs."""


def parity_limit(model: LanguageModel, engine: TokenEngine) -> float:
    """How far log-probs may be apart: by rounding in float32, by more where the trainer or the engine computes in less.

    An engine says so by its `dtype`, its model, or its `settings`; one that does not counts as float32.
    """
    found: set[Any] = {
        next(m.parameters()).dtype for m in (model, getattr(engine, "model", 0)) if isinstance(m, nn.Module)
    }
    found |= {getattr(engine, "dtype", None), getattr(getattr(engine, "settings", None), "torch_dtype", None)}
    return PARITY if found <= {torch.float32, torch.float64, None} else PARITY_HALF


def parity(
    logprobs: Tensor, recorded: Tensor, fresh: Tensor | None, limit: float, world: World = ALONE
) -> dict[str, Tensor]:
    """`parity_error`, the largest |log π now − log π at sampling| before the first move: it must be rounding only.

    logprobs, recorded [N]; fresh bool [N] leaves out tokens that other weights sampled. Without any other: no metric.
    With a `world` the largest over all its processes, which raise alike.

    Raises:
        ParityError: the difference is above `limit`.
    """
    difference = (logprobs.detach() - recorded).abs()
    if fresh is not None:
        difference = difference[fresh]
    worst = world.largest(difference.max() if len(difference) else difference.new_tensor(-1.0))
    if worst < 0:
        return {}
    if not float(worst) <= limit:
        raise ParityError(
            f"log-probs at sampling and in training differ by {float(worst):.3g} nats (allowed {limit:g}): the engine "
            "holds other weights, or samples with top-p, top-k or another temperature than it is trained at"
        )
    return {"parity_error": worst}
