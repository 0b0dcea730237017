"""What an endpoint says that its answers took."""

from dataclasses import dataclass
from typing import Any

from aem_agent.prices import Prices, known_dollars


@dataclass(frozen=True, slots=True)
class Used:
    """Of one answer."""

    tokens: tuple[int, int] | None
    """Of prompt and response; None if the endpoint does not say."""
    cached: int = 0
    """Tokens of the prompt that the endpoint had kept from an earlier one."""
    cost: float | None = None
    """US dollars, as the endpoint says; None if it does not."""


@dataclass(slots=True)
class Usage:
    """What an engine used so far, as the endpoint counts it."""

    prices: Prices | None = None
    requests: int = 0
    """Answered ones."""
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost: float | None = None
    """US dollars; None if there was no answer, or one whose cost is not known."""

    def add(self, used: Used) -> None:
        """Count an answer."""
        prompt, completion = used.tokens or (0, 0)
        before = self.cost if self.requests else 0.0
        self.requests += 1
        self.prompt_tokens += prompt
        self.completion_tokens += completion
        self.cached_tokens += used.cached
        cost = used.cost
        if cost is None and self.prices is not None and used.tokens is not None:
            cost = known_dollars(self.prices.cost(prompt, completion))
        self.cost = None if before is None or cost is None else before + cost


def read_usage(data: Any) -> Used:
    """From the `usage` of an answer.

    Costs come as a number (OpenRouter) or as an object with a total (Perplexity); what is neither is not known.

    Raises:
        ValueError, TypeError, AttributeError, OverflowError: counts that are none.
    """
    if not data:
        return Used(None)
    counts = [data.get(name) for name in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (_count(count) for count in counts)
    details = data.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
    cost = data.get("cost")
    cost = cost.get("total_cost") if isinstance(cost, dict) else cost
    return Used(None if counts == [None, None] else (prompt, completion), cached, _dollars(cost))


def _dollars(value: Any) -> float | None:
    return known_dollars(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _count(value: Any) -> int:
    """An int of 0 or more; None counts as 0."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise ValueError("not a count")
    return int(value)
