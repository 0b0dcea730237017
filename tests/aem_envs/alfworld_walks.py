"""Walks through native games for tests: random, guided to a win, and mixed; each recorded step by step."""

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aem_envs.alfworld.engine import Game
from aem_envs.alfworld.views import ObjectState
from aem_envs.alfworld.world import World

GARBAGE = (
    "",
    "xyzzy",
    "go to",
    "take",
    "take apple 1",
    "open the door",
    "LOOK",
    "go to cabinet 999",
    "help me",
    "put",
    "é\x00☃",
)
_VERBS = {"clean": "clean", "hot": "heat", "cool": "cool"}


@dataclass(frozen=True)
class Record:
    """What the native engine said after a command (None: the reset)."""

    command: str | None
    text: str
    admissible: list[str]
    won: bool
    score: int


class Walk:
    """Plays a fresh episode and keeps the record of it."""

    def __init__(self, world: World, seed: int) -> None:
        self.game, self.rng = Game(world), random.Random(seed)
        self.records = [self._record(None, self.game.reset())]

    def _record(self, command: str | None, text: str) -> Record:
        return Record(command, text, self.game.admissible(), self.game.won, self.game.score)

    def do(self, command: str) -> None:
        """One step."""
        self.records.append(self._record(command, self.game.step(command)))

    def wander(self, steps: int) -> None:
        """Random steps, every verb equally likely; one in twenty is not a command at all."""
        for _ in range(steps):
            if self.rng.random() < 0.05:
                self.do(self.rng.choice(GARBAGE))
                continue
            verbs: dict[str, list[str]] = {}
            for command in self.game.admissible():
                verbs.setdefault(command.split(" ")[0], []).append(command)
            self.do(self.rng.choice(verbs[self.rng.choice(sorted(verbs))]))

    def follow(self, patterns: Iterable[str]) -> None:
        """For each pattern, the first admissible command that begins so; a pattern without one fails."""
        for pattern in patterns:
            matches = [command for command in self.game.admissible() if re.match(pattern, command)]
            assert matches, f"{self.game.world.name}: nothing like {pattern!r} in {self.game.admissible()}"
            self.do(matches[0])

    @property
    def stuck(self) -> bool:
        """The held object fits nowhere: some official games let one take what no receptacle accepts."""
        game = self.game
        places = [number for number, spot in enumerate(game.world.receptacle_locations) if spot >= 0]
        return game.held >= 0 and not any(game.fits(game.held, number) for number in places)

    def win(self) -> bool:
        """Follow a plan for one of the six task types; True if the game is won at the end."""
        for command in guide(self.game):
            self.do(command)
        return self.game.won


def guide(game: Game) -> Iterator[str]:
    """Commands that win a game of the six types, by someone who knows the whole state."""
    task, receptacles = game.world.task, game.receptacles()
    if game.held >= 0:
        yield from _put_anywhere(game)
    if task.task_type == "look_at_obj_in_light":
        lamps = [thing for thing in game.objects() if thing.type == task.lamp_type and thing.toggleable]
        yield from _fetch(game, _items(game)[0])
        yield from _walk_to(game, lamps[0].where[0])
        yield f"use {lamps[0].name}"
        return
    target = next(r.name for r in receptacles if r.type == task.receptacle_type and r.location is not None)
    for item in _items(game)[: task.count]:
        if target in item.where and not task.need:
            continue
        yield from _fetch(game, item)
        if task.need:
            yield from _treat(game, item, _VERBS[task.need])
        yield from _walk_to(game, target)
        yield from _opened(game, target)
        yield next(
            c
            for c in game.admissible()
            if c.startswith((f"put {item.name} ", f"move {item.name} ")) and c.endswith(target)
        )


def _items(game: Game) -> list[ObjectState]:
    found = [thing for thing in game.objects() if thing.type == game.world.task.object_type and thing.where]
    if game.world.task.count == 2:  # those already there stay there
        goal = next(r.name for r in game.receptacles() if r.type == game.world.task.receptacle_type)
        found.sort(key=lambda thing: goal not in thing.where)
    return found


def _walk_to(game: Game, receptacle: str) -> Iterator[str]:
    if f"go to {receptacle}" in game.admissible():
        yield f"go to {receptacle}"


def _opened(game: Game, receptacle: str) -> Iterator[str]:
    if f"open {receptacle}" in game.admissible():
        yield f"open {receptacle}"


def _fetch(game: Game, item: ObjectState) -> Iterator[str]:
    yield from _walk_to(game, item.where[0])
    yield from _opened(game, item.where[0])
    yield f"take {item.name} from {item.where[0]}"


def _treat(game: Game, item: ObjectState, verb: str) -> Iterator[str]:
    kind = {"clean": "sinkbasin", "heat": "microwave", "cool": "fridge"}[verb]
    appliance = next(r.name for r in game.receptacles() if r.type == kind)
    yield from _walk_to(game, appliance)
    yield f"{verb} {item.name} with {appliance}"


def _put_anywhere(game: Game) -> Iterator[str]:
    """Put the held object down, in some place that takes it."""
    for receptacle in game.receptacles():
        if receptacle.location is not None:
            yield from _walk_to(game, receptacle.name)
            yield from _opened(game, receptacle.name)
            if puts := [command for command in game.admissible() if command.startswith(("put ", "move "))]:
                yield puts[0]
                return
