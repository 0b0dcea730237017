"""A trivial environment: what is left of a step's time is the overhead of whoever steps it. Standard library only."""

from typing import Any

TEXT = ("You arrive at shelf 3. On the shelf 3, you see a candle 1, and a soap bottle 2. " * 13)[:1000]
ACTION = "look"


class Trivial:
    """Ends after `steps` steps and says 1 kB each time."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.texts = [f"{TEXT}{n}" for n in range(steps + 1)]
        self.n = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self.n = 0
        return self.texts[0], {"won": False, "score": 0.0}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.n += 1
        done = self.n == self.steps
        info = {"won": done, "score": float(done), "anchor": "0123456789abcdef", "action_error": None}
        return self.texts[self.n], float(done), done, False, info
