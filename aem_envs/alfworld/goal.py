"""Goals: any ADL formula over the ALFRED predicates, grounded once per game into a quick test of the state.

Quantifiers are expanded over the objects of the game. Atoms that no action changes are decided at once, and a
conjunction's unchanging atoms choose the candidates (a join, not a full product), so that what remains is a small tree
of closures over the changing state.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aem_envs.alfworld.text import CLEAN, COOL, HOT, ON, SLICED, TOGGLED
from envs_data.alfworld.problem import SIGNATURES, Formula
from envs_data.errors import GameFileError

if TYPE_CHECKING:
    from aem_envs.alfworld.engine import Game

Test = Callable[["Game"], bool]
MAX_NODES = 100_000
"""Ground atoms a goal may need before the game is refused (official goals need fewer than a thousand)."""

IN, AT, PLACE, OPENED, HELD, FLAGS, CHECKED = 1, 2, 4, 8, 16, 32, 64
"""Bits of what a goal reads: contents, agent's place, objects' places, doors, hands, properties, things looked at."""

FLAG_OF = {"isclean": CLEAN, "ishot": HOT, "iscool": COOL, "issliced": SLICED, "istoggled": TOGGLED, "ison": ON}
READS = {
    "inreceptacle": IN,
    "atlocation": AT,
    "objectatlocation": PLACE,
    "opened": OPENED,
    "holds": HELD,
    "holdsany": HELD,
    "checked": CHECKED,
} | dict.fromkeys(FLAG_OF, FLAGS)
_OPERATORS = frozenset(("and", "or", "not", "imply", "exists", "forall"))


@dataclass(frozen=True)
class Goal:
    """A compiled goal."""

    test: Test
    """True when the state satisfies the goal."""
    reads: int
    """Which parts of the state the test looks at (bits above): other changes cannot alter its answer."""


@dataclass(frozen=True)
class Facts:
    """What the goal's compiler must know of a game; all names in lower case."""

    kinds: Mapping[str, str]
    """Declared thing → PDDL type."""
    unary: Mapping[str, Set[str]]
    """Predicate → things it holds of, in the initial state."""
    binary: Mapping[str, Set[tuple[str, str]]]
    """Predicate → pairs it holds of, in the initial state."""
    index: dict[str, int]
    """Object, receptacle or location → its number in the engine; things that no fact mentions have none."""


def compile_goal(goal: Formula, facts: Facts, name: str) -> Goal:
    """Ground `goal`. Raises GameFileError for unknown predicates, names and types, free variables, huge expansions."""
    grounder = _Grounder(facts, name)
    result = grounder.ground(goal, {})
    if isinstance(result, bool):
        return Goal((lambda game: True) if result else (lambda game: False), 0)
    return Goal(result, grounder.reads)


class _Grounder:
    def __init__(self, facts: Facts, name: str) -> None:
        self.facts, self.name = facts, name
        self.reads = 0
        self.nodes = 0
        self.domains: dict[str, list[str]] = {"object": list(facts.kinds)}  # PDDL's `object` is everybody's supertype
        for thing, kind in facts.kinds.items():
            if kind != "object":
                self.domains.setdefault(kind, []).append(thing)
        self.partners: dict[tuple[str, int], dict[str, list[str]]] = {}

    def error(self, what: str) -> GameFileError:
        return GameFileError(f"{self.name}: the goal {what}")

    def ground(self, formula: Formula, env: Mapping[str, str]) -> bool | Test:
        """A truth value where the state cannot change it, else a test."""
        operator = formula[0].lower()
        if operator == "and":
            return self.junction([self.ground(part, env) for part in _atoms_first(formula[1:])], every=True)
        if operator == "or":
            return self.junction([self.ground(part, env) for part in _atoms_first(formula[1:])], every=False)
        if operator == "not":
            return _negated(self.ground(formula[1], env))
        if operator == "imply":
            return self.junction([_negated(self.ground(formula[1], env)), self.ground(formula[2], env)], every=False)
        if operator == "exists":
            return self.exists(formula[1], formula[2], env)
        if operator == "forall":
            return _negated(self.exists(formula[1], ("not", formula[2]), env))
        return self.atom(operator, [self.resolve(argument, env) for argument in formula[1:]])

    def junction(self, parts: Sequence[bool | Test], *, every: bool) -> bool | Test:
        if (not every) in parts:
            return not every
        tests = tuple(part for part in parts if not isinstance(part, bool))
        if len(tests) < 2:
            return tests[0] if tests else every
        if every:
            if len(tests) == 2:
                first, second = tests
                return lambda game: first(game) and second(game)
            return lambda game: all(test(game) for test in tests)

        return lambda game: any(test(game) for test in tests)

    def exists(self, variables: Sequence[tuple[str, str]], body: Formula, env: Mapping[str, str]) -> bool | Test:
        parts: list[Formula] = list(body[1:]) if body[0].lower() == "and" else [body]
        own = {variable.lower(): kind.lower() for variable, kind in variables}
        known = {key: value for key, value in env.items() if key not in own}
        guides = [tuple(map(str.lower, part)) for part in parts if self.guides(part)]
        rest: Formula = ("and", *(part for part in parts if not self.guides(part)))
        return self.junction([self.ground(rest, bound) for bound in self.bindings(own, guides, known)], every=False)

    def guides(self, part: Formula) -> bool:
        """A positive, unchanging atom whose arguments differ can choose candidates."""
        predicate = part[0].lower()
        arity = len(SIGNATURES.get(predicate, ()))
        return predicate in SIGNATURES and predicate not in READS and len(set(part[1:])) == arity == len(part) - 1

    def bindings(
        self, variables: Mapping[str, str], guides: Sequence[tuple[str, ...]], env: Mapping[str, str]
    ) -> Iterator[Mapping[str, str]]:
        """All values of `variables` that satisfy every guide, most constrained variable first."""
        self.count()
        if not variables:
            if all(self.holds(guide, env) for guide in guides):
                yield env
            return
        choices = {variable: self.candidates(variable, kind, guides, env) for variable, kind in variables.items()}
        chosen = min(choices, key=lambda variable: len(choices[variable]))
        others = {variable: kind for variable, kind in variables.items() if variable != chosen}
        for value in choices[chosen]:
            yield from self.bindings(others, guides, {**env, chosen: value})

    def candidates(
        self, variable: str, kind: str, guides: Sequence[tuple[str, ...]], env: Mapping[str, str]
    ) -> Sequence[str]:
        best: Sequence[str] | None = None
        for predicate, *arguments in guides:
            if variable not in arguments:
                continue
            if len(arguments) == 1:
                found: Sequence[str] = list(self.facts.unary.get(predicate, ()))
            else:
                position = arguments.index(variable)
                other = arguments[1 - position]
                if other.startswith("?") and other not in env:
                    continue
                found = self.partners_of(predicate, position).get(env.get(other, other), [])
            if best is None or len(found) < len(best):
                best = found
        domain = self.domains.get(kind)
        if domain is None:
            if kind not in ("agent", "location", "receptacle", "otype", "rtype"):
                raise self.error(f"quantifies over the unknown type {kind[:60]!r}")
            return ()
        return domain if best is None else [thing for thing in best if kind in ("object", self.facts.kinds[thing])]

    def partners_of(self, predicate: str, position: int) -> dict[str, list[str]]:
        table = self.partners.get((predicate, position))
        if table is None:
            table = self.partners[predicate, position] = {}
            for pair in self.facts.binary.get(predicate, ()):
                table.setdefault(pair[1 - position], []).append(pair[position])
        return table

    def holds(self, guide: tuple[str, ...], env: Mapping[str, str]) -> bool:
        return self.atom(guide[0], [self.resolve(argument, env) for argument in guide[1:]]) is True

    def resolve(self, argument: str, env: Mapping[str, str]) -> str:
        argument = argument.lower()
        if argument.startswith("?"):
            if argument not in env:
                raise self.error(f"has the free variable {argument[:60]!r}")
            return env[argument]
        if argument not in self.facts.kinds:
            raise self.error(f"names the undeclared {argument[:60]!r}")
        return argument

    def count(self) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self.error(f"expands to more than {MAX_NODES} cases")

    def atom(self, predicate: str, arguments: list[str]) -> bool | Test:
        self.count()
        if predicate == "=" and len(arguments) == 2:
            return arguments[0] == arguments[1]
        if len(arguments) != len(SIGNATURES.get(predicate, ())):
            raise self.error(f"has the unknown predicate or wrong number of arguments in {predicate[:60]!r}")
        if predicate == "checked" or (predicate in READS and self.well_typed(predicate, arguments)):
            self.reads |= READS[predicate]
            return self.fluent(predicate, arguments)
        if len(arguments) == 1:
            return arguments[0] in self.facts.unary.get(predicate, ())
        return tuple(arguments) in self.facts.binary.get(predicate, ())

    def well_typed(self, predicate: str, arguments: list[str]) -> bool:
        """No action ever makes a changing atom true of things of other types, or of things no fact mentions."""
        kinds = self.facts.kinds
        return all(
            kinds[argument] == kind and (kind == "agent" or argument in self.facts.index)
            for argument, kind in zip(arguments, SIGNATURES[predicate], strict=True)
        )

    def fluent(self, predicate: str, arguments: list[str]) -> Test:
        if predicate == "checked":
            thing = arguments[0]
            return lambda game: thing in game.checked
        if predicate == "holdsany":
            return lambda game: game.held >= 0
        numbers = [self.facts.index.get(argument, -1) for argument in arguments]
        last = numbers[-1]
        if predicate == "inreceptacle":
            item = numbers[0]
            return lambda game: item in game.contents[last]
        if predicate == "atlocation":
            return lambda game: game.location == last
        if predicate == "objectatlocation":
            item = numbers[0]
            return lambda game: last in game.places_of(item)
        if predicate == "opened":
            return lambda game: game.is_opened(last)
        if predicate == "holds":
            return lambda game: game.held == last
        flag = FLAG_OF[predicate]
        return lambda game: bool(game.flags[last] & flag)


def _atoms_first(parts: Sequence[Formula]) -> list[Formula]:
    return sorted(parts, key=lambda part: part[0].lower() in _OPERATORS)


def _negated(result: bool | Test) -> bool | Test:
    if isinstance(result, bool):
        return not result
    return lambda game: not result(game)
