"""Losses for runs of several processes: `algorithm.loss=odd_losses:…`."""

import os
import signal
from typing import Any

import torch.distributed as dist
from torch import Tensor

from trainer.losses import Loss, policy_loss


def nan_on_the_second(logprobs: Tensor, *others: Any, **options: Any) -> Loss:
    """The usual one, but NaN where the second process computes it."""
    second = dist.is_initialized() and dist.get_rank() == 1
    return policy_loss(logprobs * float("nan") if second else logprobs, *others, **options)


_calls = 0


def ctrl_c_in_the_first_step(*arguments: Any, **options: Any) -> Loss:
    """The usual one; the first process, while it computes it, has Ctrl-C sent to whoever started it.

    Not where it is only tried, before the run begins.
    """
    global _calls
    if dist.is_initialized() and dist.get_rank() == 0:
        _calls += 1
    if _calls == 2:
        _calls += 1
        os.kill(os.getppid(), signal.SIGINT)
    return policy_loss(*arguments, **options)
