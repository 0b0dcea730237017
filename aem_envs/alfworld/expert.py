"""Experts for ALFWorld. `Expert` knows the whole state through the engine; `SearchExpert` only what it has read.

Both plan anew at every step, so they may start anywhere and go on after any action, their own or not. With noise they
sometimes act at random: demonstrations then also show how to recover.
"""

import random
from typing import Any

from aem_envs.alfworld import reader
from aem_envs.alfworld.engine import Game
from aem_envs.alfworld.planner import ORDERS, Belief, Order, next_action
from aem_envs.alfworld.world import World
from aem_envs.core import BadOptionError, TextEnv
from envs_data.alfworld.goals import Goal
from envs_data.alfworld.problem import TASK_TYPES, Problem

_BLUNDERS = (
    "go to {0}", "go to {0}", "open {0}", "close {0}", "examine {0}", "take {1} from {0}", "move {1} to {0}",
    "put {1} in/on {0}", "use {1}", "examine {1}", "heat {1} with {0}", "clean {1} with {0}", "cool {1} with {0}",
    "look", "inventory",
)  # fmt: skip
_PROPERTY = {
    "pick_clean_then_place_in_recep": "clean",
    "pick_heat_then_place_in_recep": "hot",
    "pick_cool_then_place_in_recep": "cool",
}
"""Task type → the `ObjectState` field that says the object has been treated."""


class _Player:
    """What both experts share: noise, and noticing refusals."""

    acted_at_random: bool
    """Whether the last action was noise (not something to learn from)."""

    def __init__(self, *, noise: float = 0.0, seed: int = 0) -> None:
        """`noise`: chance of a random action, half of them admissible ones where `info` lists those, else commands put
        together from names in the texts, which may fail. `seed`: of the noise, which depends on nothing else but the
        task and the episode's seed.

        Raises:
            BadOptionError: noise outside [0, 1].
        """
        if not 0.0 <= noise <= 1.0:
            raise BadOptionError(f"noise is a chance between 0 and 1, not {noise!r}")
        self.noise, self.seed = float(noise), seed
        self.acted_at_random = False
        self._last: str | None = None
        self._planned: str | None = None

    def reset(self, env: TextEnv, observation: str, info: dict[str, Any]) -> None:
        """Start an episode on `env` (unwrapped), given what its `reset` returned."""
        self._rng = random.Random(f"{self.seed} {info.get('task_id')} {info.get('seed')}")
        self._last = self._planned = None
        self.acted_at_random = False
        self._begin(env, observation)

    def act(self, observation: str, info: dict[str, Any]) -> str:
        """The next action, given the newest observation and info."""
        if self._last is not None:
            done = info.get("parsed_action") or self._last
            self._notice(done, observation, expected=done == self._planned)
        action = self._planned = next_action(self._belief())
        self.acted_at_random = self.noise > 0 and self._rng.random() < self.noise
        if self.acted_at_random:
            action = self._blunder(info.get("admissible_actions"))
        self._last = action
        return action

    def _blunder(self, admissible: list[str] | None) -> str:
        if admissible and self._rng.random() < 0.5:
            return self._rng.choice(admissible)
        belief = self._belief()
        seen = [thing for things in belief.contents.values() for thing in things]
        place = self._rng.choice(belief.receptacles)
        thing = belief.holding or (self._rng.choice(seen) if seen else f"{belief.goal.kind} 1")
        return self._rng.choice(_BLUNDERS).format(place, thing)

    def _begin(self, env: TextEnv, observation: str) -> None:
        raise NotImplementedError

    def _notice(self, action: str, observation: str, *, expected: bool) -> None:
        raise NotImplementedError

    def _belief(self) -> Belief:
        raise NotImplementedError


class SearchExpert(_Player):
    """Remembers what it has read, and searches: opens what is closed, goes on until it finds what it needs.

    `order="room"` visits receptacles as the room lists them, going on after the place visited last: an order that can
    be imitated from a short window. `order="prior"` goes where such an object usually lies, fewest steps first: in
    large rooms it wins far more often within the step limit.
    """

    def __init__(self, *, order: Order = "room", noise: float = 0.0, seed: int = 0) -> None:
        super().__init__(noise=noise, seed=seed)
        if order not in ORDERS:
            raise BadOptionError(f"unknown search order {order!r}; known: {', '.join(ORDERS)}")
        self.order = order

    def _begin(self, env: TextEnv, observation: str) -> None:
        self._believed = reader.first_belief(observation, self.order)

    def _notice(self, action: str, observation: str, *, expected: bool) -> None:
        reader.update(self._believed, action, observation, expected=expected)

    def _belief(self) -> Belief:
        return self._believed


class Expert(_Player):
    """Sees the whole state through the native engine's `objects()` and `receptacles()` and wastes no step."""

    def _begin(self, env: TextEnv, observation: str) -> None:
        game = getattr(env, "game", None)
        if not isinstance(game, Game):
            raise BadOptionError('the expert reads the native engine\'s state; use engine="native", or "expert-search"')
        task = game.world.task
        to = task.lamp_type or task.receptacle_type
        if task.task_type not in TASK_TYPES or task.sliced or not task.object_type or not to:
            raise BadOptionError(f"the expert plays the six task types of ALFWorld, and this task is another: {task}")
        self._env, self._goal = env, Goal(task.task_type, task.object_type, to)
        self._refused: set[str] = set()

    def _notice(self, action: str, observation: str, *, expected: bool) -> None:
        if not observation.startswith(reader.NOTHING_HAPPENS):
            self._refused.clear()
        elif expected:
            self._refused.add(action)

    def _belief(self) -> Belief:
        game: Game = self._env.game  # type: ignore[attr-defined]  # checked in `_begin`
        places = [place for place in game.receptacles() if place.location is not None]
        objects = game.objects()
        attribute = _PROPERTY.get(self._goal.task_type)
        wording = game.world.wording
        return Belief(
            goal=self._goal,
            receptacles=[place.name for place in places],
            near=frozenset(place.name for place in places if place.location == game.location),
            holding=next((thing.name for thing in objects if thing.held), None),
            contents={place.name: list(place.contents) for place in places},
            closed={place.name for place in places if not place.open},
            treated={thing.name for thing in objects if attribute and getattr(thing, attribute)},
            refused=self._refused,
            put=f"{wording.put} {{}}{wording.into}{{}}",
        )


def walkthrough(problem: Problem, limit: int = 100) -> list[str]:
    """Actions of the expert that win a game.

    Raises:
        BadOptionError: its goal is none of the six task types, or the expert did not win in `limit` steps.
    """
    env = _Shown(Game(World.compile(problem)))
    expert = Expert()
    actions: list[str] = []
    observation = env.game.reset()
    expert.reset(env, observation, {})
    while not env.game.won:
        if len(actions) == limit:
            raise BadOptionError(f"{problem.name}: the expert did not win in {limit} steps; is the game solvable?")
        actions.append(expert.act(observation, {}))
        observation = env.game.step(actions[-1])
    return actions


class _Shown(TextEnv):
    """As much of an environment as the expert looks at."""

    def __init__(self, game: Game) -> None:
        self.game = game
