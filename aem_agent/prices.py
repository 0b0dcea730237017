"""What tokens cost."""

import math
from dataclasses import dataclass

from aem_agent.types import AgentError

MOST_DOLLARS = 1e6
"""For one answer: whatever is said to cost more is not known."""


class BadPricesError(AgentError):
    """Prices that cannot be meant; the message says how to write them."""


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars per million tokens. Discounts, as for cached prompts, are not known: costs are upper bounds."""

    prompt: float
    response: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(price) and price >= 0 for price in (self.prompt, self.response)):
            raise BadPricesError(f"prices must be finite and at least 0, not {self.prompt:g} and {self.response:g}")

    @classmethod
    def parse(cls, text: str) -> "Prices":
        """From "IN,OUT", as on a command line; raises `BadPricesError`."""
        try:
            prompt, response = map(float, text.split(","))
        except ValueError:
            raise BadPricesError(
                f"{text!r} does not give prices: write IN,OUT in US dollars per million tokens, as in 0.15,0.6"
            ) from None
        return cls(prompt, response)

    def cost(self, prompt_tokens: int, response_tokens: int) -> float:
        """US dollars; infinite for counts beyond all reason."""
        try:
            return (prompt_tokens * self.prompt + response_tokens * self.response) / 1e6
        except OverflowError:
            return math.inf


def known_dollars(value: float | None) -> float | None:
    """What an answer is said to cost, or None where that cannot be meant: sums of the rest stay finite."""
    return float(value) if value is not None and 0 <= value <= MOST_DOLLARS else None
