"""How a collection goes on, in a few words: for people who wait for it."""

from collections.abc import Callable
from time import monotonic

from aem_agent.types import Episode

SAY_EVERY = 0.5
"""Seconds between two sayings: counting costs an episode some microseconds, showing may cost milliseconds."""


class Tally:
    """Counts episodes as they end, and says so now and then.

    Args:
        what: the name of what is played.
        planned: episodes that will be played, or about so many.
        say: gets the words; called in the thread that plays.
    """

    def __init__(self, what: str, planned: int, say: Callable[[str], None]) -> None:
        self._what, self._planned, self._say = what, planned, say
        self._done = self._completed = self._won = self._tokens = 0
        self._begun = self._said = monotonic()

    def __call__(self, episode: Episode) -> None:
        """Note an episode that ended."""
        self._done += 1
        if episode.completed:
            self._completed += 1
            self._won += episode.won
        self._tokens += sum(len(turn.response.token_ids) for turn in episode.turns)
        now = monotonic()
        if now - self._said >= SAY_EVERY:
            self._said = now
            self._say(self.words(now - self._begun))

    def words(self, seconds: float) -> str:
        """What was played so far, in `seconds`."""
        seconds = max(seconds, 1e-9)
        parts = [
            f"{self._what}: {self._done}/{self._planned} episodes",
            f"{self._done / seconds:.1f} episodes/s",
            f"{self._tokens / seconds:.0f} tokens/s",
        ]
        if self._completed:
            parts.append(f"success {self._won / self._completed:.2f}")
        if errors := self._done - self._completed:
            parts.append(f"{errors} errors")
        return ", ".join(parts)
