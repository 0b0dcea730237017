"""The step-level penalty for invalid actions: A_it ← A_it − c·1[invalid], after normalisation and before α.

On the step, not on the return: within a group where all fail, tiny differences of return would be
normalised to full size.
"""

from torch import Tensor


def penalise_invalid(
    advantages: Tensor, invalid: Tensor, coefficient: float, *, span_index: Tensor | None = None
) -> Tensor:
    """advantages [responses], or [tokens] with `span_index`; invalid bool [responses]; c in normalised units."""
    per_entry = invalid if span_index is None else invalid[span_index]
    return advantages - coefficient * per_entry.to(advantages.dtype)
