"""An expert that only reads: it searches, opens what looks best, and buys what covers most of the words asked for."""

import re
from dataclasses import dataclass, field
from typing import Any

from aem_envs.core import TextEnv
from aem_envs.webshop.expert import LIMIT, Noisy
from aem_envs.webshop.session import QUERY_FORM
from aem_envs.webshop.view import NO_RATING, SEP, instruction

CANDIDATES = 4
"""Products read, as far as the step limit allows, before the best of them is bought."""

_PRICE = re.compile(r"\$(\d+(?:\.\d+)?)")
_WORD = re.compile(r"[a-z0-9]+(?:[.'][a-z0-9]+)*")
_IDLE_WORDS = """
    what so old gone here friend mine a about am an and any are as at be been buy by can color colour could do
    find flavor for from get give has have hello help hi i i'd i'm im in interested is it it's item like looking
    lower made make me my need needs of on one or order please prefer price product purchase scent search
    searching shop shopping should show size some something style sure than that the their them there they this
    to trying up us want where which will with would you your
"""
_IDLE = frozenset(_IDLE_WORDS.split())
"""Words of instructions that say nothing about the product."""

_EMPTY = ("Instruction:", "…", "Back to Search", "Page n", "< Prev", "Next >")


@dataclass
class _Item:
    """A product that was seen."""

    words: set[str]
    choices: list[str] = field(default_factory=list)
    """Values to choose, one of an option at most."""
    pages: set[str] = field(default_factory=set)
    """Sub-pages read."""


_NOTHING = _Item(set())


class SearchExpert(Noisy):
    """Plays by what the pages say, through `info["raw_obs"]` and the admissible actions only.

    Args:
        noise: chance per turn of a random action that buys nothing.
        seed: of the noise.
    """

    def __init__(self, noise: float = 0.0, seed: int = 0) -> None:
        super().__init__(noise, seed)
        self._env: TextEnv | None = None
        self._text, self._limit = "", float("inf")
        self._needed: set[str] = set()
        self._items: dict[str, _Item] = {}
        self._open, self._page = "", ""
        self._chosen: set[str] = set()
        self._max_steps = self._left = 0

    def reset(self, env: TextEnv, observation: str, info: dict[str, Any]) -> None:
        """Start an episode; `env` is asked for its step limit and for random actions only."""
        self._env = env
        self._begin(info)
        text = instruction(info["raw_obs"]).lower()
        limit = LIMIT.search(text)
        self._limit = float(limit[1]) if limit else float("inf")
        self._text = LIMIT.sub("", text)
        self._needed = {_plain(word) for word in _WORD.findall(self._text) if word not in _IDLE}
        self._items.clear()
        self._open = self._page = ""
        self._chosen.clear()
        self._max_steps = env.max_steps

    def act(self, observation: str, info: dict[str, Any]) -> str:
        """The next action."""
        if self._strays():
            assert self._env is not None
            return self._noted(self._stray(self._env, info))
        actions, parts = info["admissible_actions"], info["raw_obs"].split(SEP)
        self._left = self._max_steps - int(info["steps"])
        if actions == [QUERY_FORM]:
            return f"search[{' '.join(word for word in _WORD.findall(self._text) if word not in _IDLE) or 'shop'}]"
        if "click[buy now]" in actions:
            return self._noted(self._on_item(actions, parts))
        if "click[next >]" in actions:
            return self._noted(self._on_results(actions, parts))
        if self._open in self._items:
            self._items[self._open].words |= _words(" ".join(parts[4:]))
            self._items[self._open].pages.add(self._page)
        return "click[< prev]"

    def _noted(self, action: str) -> str:
        """Remember which product and which of its pages an action leads to."""
        name = action.removeprefix("click[").removesuffix("]")
        if name in ("features", "description"):
            self._page = name
        elif name in self._items.get(self._open, _NOTHING).choices:
            self._chosen.add(name)
        elif len(name) == 10 and name.isalnum():
            self._open = name
            self._chosen.clear()
        return action

    def _on_results(self, actions: list[str], parts: list[str]) -> str:
        """Open the unread product whose title covers most, while there is time for it; then the best of those read."""
        affordable = {}
        for place, part in enumerate(parts[:-2]):
            found = _PRICE.search(parts[place + 2])
            if f"click[{part.lower()}]" in actions and found and float(found[1]) <= self._limit:
                affordable[part.lower()] = parts[place + 1]
        unread = [name for name in affordable if name not in self._items]
        if unread and self._time_for_more(on_item=False):
            return f"click[{max(unread, key=lambda name: self._coverage(_words(affordable[name])))}]"
        read = [name for name in affordable if name in self._items]
        if read:
            return f"click[{max(read, key=lambda name: self._coverage(self._items[name].words))}]"
        return "click[next >]" if len(parts) > len(_EMPTY) else f"search[{' '.join(sorted(self._needed)) or 'shop'}]"

    def _on_item(self, actions: list[str], parts: list[str]) -> str:
        """Read what may hold the missing words; buy if nothing is missing or nothing better was or can be read."""
        item = self._items.get(self._open)
        if item is None:
            item = self._items[self._open] = self._first_look(actions, parts)
        missing = self._needed - item.words
        for page in ("features", "description"):
            if missing and page not in item.pages and self._left >= 2 + self._cost():
                return f"click[{page}]"
        best = max(self._items.values(), key=lambda other: self._coverage(other.words))
        if (
            missing
            and not self._chosen
            and (self._time_for_more(on_item=True) or self._coverage(best.words) > self._coverage(item.words))
        ):
            return "click[< prev]"
        for value in item.choices:
            if value not in self._chosen:
                return f"click[{value}]"
        return "click[buy now]"

    def _time_for_more(self, on_item: bool) -> bool:
        """Whether another product can be opened, and one of its pages read, before it has to be bought."""
        return len(self._items) < CANDIDATES and self._left >= 3 + on_item + self._cost()

    def _cost(self) -> int:
        """Actions that buying any of the products read may take from the page of another."""
        return 3 + max((len(item.choices) for item in self._items.values()), default=3)

    def _first_look(self, actions: list[str], parts: list[str]) -> _Item:
        """Title and options of the page; of each option the value that the instruction names in most words."""
        end = parts.index(NO_RATING)
        groups: list[list[str]] = [[]]
        for part in parts[4 : end - 2]:
            if f"click[{part}]" in actions:
                groups[-1].append(part)
            else:  # an option's name: it cannot be clicked
                groups.append([])
        item = _Item(_words(" ".join(parts[4:end])))
        for values in groups:
            named = [value for value in values if f" {value} " in f" {self._text} " or _words(value) <= self._needed]
            if named:
                item.choices.append(max(named, key=lambda value: len(value.split())))
        return item

    def _coverage(self, words: set[str]) -> float:
        return len(self._needed & words) / max(1, len(self._needed))


def _words(text: str) -> set[str]:
    return {_plain(word) for word in _WORD.findall(text.lower())}


def _plain(word: str) -> str:
    """Without a plural's s."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
