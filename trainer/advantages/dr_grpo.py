"""Dr. GRPO's advantages (arXiv 2503.20783): A = R − mean_G R, without the std.

Dividing by the std would weigh tasks by how equal their returns are: those nearly always won, or nearly always lost,
most. The other half of Dr. GRPO is the loss: the sum over tokens divided by a constant (`aggregate="constant"`), so
that long failures are not pushed down less per token. One R per episode; a group of one, or of equal returns, gets
exactly 0. No options.
"""

from trainer.advantages.base import Advantages, Signals
from trainer.advantages.grpo import episode_advantages


def dr_grpo(signals: Signals) -> Advantages:
    """`episode_advantages` without normalising, one entry per response."""
    return Advantages(episode_advantages(signals, normalise=False), "response")
