"""What every advantage estimator is given, what it returns, and the registry they are found in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from torch import Tensor

from aem_envs.plugins import Registry


@dataclass(frozen=True, slots=True)
class Signals:
    """One batch of completed episodes, seen from the side of credit assignment (layout: `trainer.tensors`).

    Responses lie episode after episode and turn after turn; tokens response after response.
    """

    returns: Tensor
    """[episodes] shaped returns R."""
    rewards: Tensor
    """[responses] shaped reward of each turn; their sum over an episode is its return."""
    episode_index: Tensor
    """[responses] int64, response → episode."""
    group_of_episode: Tensor
    """[episodes] int64, episode → rollout group."""
    n_groups: int
    terminated: Tensor
    """[episodes] bool; false means truncated."""
    span_index: Tensor
    """[tokens] int64, token → response."""
    values: Tensor | None = None
    """The critic's V, [responses] at the end of each prompt, or [tokens] before each response token."""
    final_values: Tensor | None = None
    """[episodes] V of the last state; read for truncated episodes only. None too with `algorithm.truncation_ends`."""
    anchor_index: Tensor | None = None
    """[responses] int64 below the number of responses: equal where two turns of one group began in the same state."""
    uncertainty: Tensor | None = None
    """[responses] mean token entropy of the policy that sampled, nats."""
    reference_kl: Tensor | None = None
    """[tokens] log π_old − log π_ref of the sampled tokens, nats; None without a reference."""


@dataclass(frozen=True, slots=True)
class Advantages:
    """What an estimator returns: unmodulated, ready for the step penalty and then AEM."""

    values: Tensor
    """[responses] or [tokens], as `per` says."""
    per: Literal["response", "token"]
    targets: Tensor | None = None
    """What the critic should learn, shaped as `values`; None without a critic."""


class Estimator(Protocol):
    """An estimator is a pure function; its options are keywords."""

    def __call__(self, signals: Signals) -> Advantages: ...


Function = TypeVar("Function", bound=Callable[..., Advantages])


def needs_critic(estimator: Function) -> Function:
    """Decorator of an estimator that reads `Signals.values`: the trainer makes a critic and trains it on `targets`."""
    estimator.needs_critic = True  # type: ignore[attr-defined]
    return estimator


def uses_critic(estimator: Estimator) -> bool:
    """Whether the estimator was declared with `needs_critic`."""
    return bool(getattr(estimator, "needs_critic", False))


estimators: Registry[Estimator] = Registry("estimators")
"""`name` to `(signals, **options) -> Advantages`; others may add theirs as entry points of `aem_suite.estimators`."""
