"""Players of the shop: `Expert` knows the goal, `FirstHit` does not even look. `reader` has the one that reads."""

import re
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from aem_envs.core import BadOptionError, TextEnv, one_of
from aem_envs.webshop.reward import option_matches
from aem_envs.webshop.view import PER_PAGE, SUB_PAGES, instruction

if TYPE_CHECKING:
    from aem_envs.webshop.env import WebShopEnv

Choice = tuple[str, str]
"""(option name, value)"""


_MOVES = ("click[back to search]", "click[next >]", "click[< prev]")


LIMIT = re.compile(r",? and price lower than (\d+(?:\.\d+)?) dollars")
"""The end of an instruction that limits the price."""


class Noisy:
    """The chance per turn of acting without an idea, for demonstrations that show mistakes and recovery."""

    def __init__(self, noise: float, seed: int) -> None:
        if not 0 <= noise <= 1:
            raise BadOptionError(f"noise is a chance between 0 and 1, not {noise}")
        self._noise, self._seed = noise, seed
        self._rng = Random(seed)
        self.acted_at_random = False
        """Whether the last action was noise."""

    def _begin(self, info: dict[str, Any]) -> None:
        self._rng = Random(f"{self._seed} {info['task_id']} {info['seed']}")

    def _strays(self) -> bool:
        self.acted_at_random = self._noise > 0 and self._rng.random() < self._noise
        return self.acted_at_random

    def _stray(self, env: TextEnv, info: dict[str, Any]) -> str:
        """A random action that buys nothing: a purchase could not be recovered from."""
        for _ in range(100):
            action = env.random_action(info, self._rng)
            if action != "click[buy now]":
                return action
        return "search[shop]"


class Expert(Noisy):
    """Goes for the goal's own product by what it knows of goal and catalogue, wherever it stands.

    Args:
        noise: chance per turn of a random action.
        seed: of the noise.
        query: what it searches for: what it "knows" of the product, or the words of the "instruction" as they stand,
            where these bring the product on the first two pages (demonstrations are easier to learn from so).
        care: chance that it chooses an option which the goal asks for. Demonstrations of a careless shopper show what
            can be done, and leave it to rewards to teach what should be.
    """

    def __init__(
        self,
        noise: float = 0.0,
        seed: int = 0,
        query: Literal["known", "instruction"] = "known",
        care: float = 1.0,
    ) -> None:
        super().__init__(noise, seed)
        if not 0 <= care <= 1:
            raise BadOptionError(f"care is a chance between 0 and 1, not {care}")
        self._care = care
        one_of("query", query, ("known", "instruction"))
        self._asks_by_instruction = query == "instruction"
        self._env: WebShopEnv | None = None
        self._doc = -1
        self._queries: list[str] = []
        self._choices: list[Choice] = []

    def reset(self, env: TextEnv, observation: str, info: dict[str, Any]) -> None:
        """Start an episode; raises `BadOptionError` if `env` is no web shop."""
        from aem_envs.webshop.env import WebShopEnv

        if not isinstance(env, WebShopEnv):
            raise BadOptionError("the expert reads the state of a web shop: use it with aem/WebShop-v0")
        self._env = env
        self._begin(info)
        doc = env.store.find(env.goal.asin)
        assert doc is not None
        self._doc = doc
        wanted = wanted_choices(env.store.product(doc).options, env.goal.options)
        self._choices = [choice for choice in wanted if self._care == 1 or self._rng.random() < self._care]
        self._queries = self._ranked_queries(env)

    def act(self, observation: str, info: dict[str, Any]) -> str:
        """The next action from where the session stands."""
        env = self._env
        assert env is not None, "reset comes first"
        if self._strays():
            return self._stray(env, info)
        session = env.session
        if session.page in SUB_PAGES:
            return "click[< prev]"
        if session.page == "item":
            if session.doc != self._doc:
                return "click[< prev]"
            for name, value in self._choices:
                if session.options.get(name) != value:
                    return f"click[{value}]"
            return "click[buy now]"
        hits = list(session.hits)
        if session.page == "results" and self._doc in hits:
            page = hits.index(self._doc) // PER_PAGE + 1
            if page == session.number:
                return env.shop.card(self._doc).action
            return "click[next >]" if page > session.number else "click[< prev]"
        return f"search[{self._queries[0]}]"

    def _ranked_queries(self, env: "WebShopEnv") -> list[str]:
        """Searches for the product, that of the instruction's own words first unless another shows it earlier."""
        product, goal = env.store.product(self._doc), env.goal
        options = [value for _, value in self._choices]
        candidates = [
            " ".join([*goal.attributes, product.query]),
            " ".join([*goal.attributes, product.query, *options]),
            product.title.lower(),
            f"<q> {product.query}",
        ]
        pages = []
        for query in candidates:
            hits = list(env.shop.search(query, env.session.salt))
            pages.append(hits.index(self._doc) // PER_PAGE if self._doc in hits else len(hits) + 1)
        ranked = [candidates[place] for place in sorted(range(len(candidates)), key=pages.__getitem__)]
        asked = LIMIT.sub("", goal.instruction.lower())
        if self._asks_by_instruction and self._doc in list(env.shop.search(asked, env.session.salt))[: 2 * PER_PAGE]:
            ranked.insert(0, asked)
        return ranked


class FirstHit:
    """Searches for the instruction as it stands and buys what comes first: what an agent should beat."""

    def reset(self, env: TextEnv, observation: str, info: dict[str, Any]) -> None:
        """Nothing to prepare."""

    def act(self, observation: str, info: dict[str, Any]) -> str:
        """Search, first product, buy."""
        actions: Sequence[str] = info["admissible_actions"]
        if "click[buy now]" in actions:
            return "click[buy now]"
        links = [action for action in actions[1:] if action not in _MOVES]
        if links:
            return links[0]
        return f"search[{instruction(info['raw_obs'])}]"


def wanted_choices(
    options: Sequence[tuple[str, Sequence[str]]], wanted: Sequence[str | tuple[str, str]]
) -> list[Choice]:
    """What to choose of a product's options so that as many as possible of the wanted ones count as chosen.

    A value that is the wanted one is taken before one that is only like it; each group of options is used once.
    """
    free = dict(options)
    choices: list[Choice] = []
    for exact in (True, False):
        for want in wanted:
            if option_matches([value for _, value in choices], [want]):
                continue
            plain = want if isinstance(want, str) else want[1]
            for name, values in free.items():
                fits = [v for v in values if v and (v == plain if exact else option_matches([v], [want]))]
                if fits and (isinstance(want, str) or not exact or name == want[0]):
                    choices.append((name, fits[0]))
                    del free[name]
                    break
    return choices
