"""Goals: any ADL formula over the ALFRED predicates, grounded once per game into a quick test of the state.

Quantifiers are expanded over the objects of the state. Atoms that no action changes are decided at once, and a
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
    from aem_envs.alfworld.state import State

Test = Callable[["State"], bool]
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
_Guides = tuple[tuple[str, tuple[str, ...]], ...]
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
    result = grounder.ground(_lowered(goal), {})
    if isinstance(result, bool):
        return Goal((lambda state: True) if result else (lambda state: False), 0)
    return Goal(result, grounder.reads)


@dataclass(frozen=True)
class _Scope:
    """A quantifier's body, sorted into what chooses candidates and what is left to test."""

    variables: dict[str, str]
    """Variable → type."""
    guides: _Guides
    """Unchanging positive atoms that must hold: (predicate, arguments)."""
    rest: tuple[Formula, ...]


class _Grounder:
    def __init__(self, facts: Facts, name: str) -> None:
        self.facts, self.name = facts, name
        self.reads = 0
        self.nodes = 0
        self.domains: dict[str, list[str]] = {
            kind: [] for kind in ("agent", "location", "receptacle", "otype", "rtype")
        }
        self.domains["object"] = list(facts.kinds)  # PDDL's `object` is everybody's supertype
        for thing, kind in facts.kinds.items():
            if kind != "object":
                self.domains[kind].append(thing)
        self.partners: dict[tuple[str, int], dict[str, set[str]]] = {}
        self.scopes: dict[int, _Scope] = {}

    def error(self, what: str) -> GameFileError:
        return GameFileError(f"{self.name}: the goal {what}")

    def ground(self, formula: Formula, env: Mapping[str, str]) -> bool | Test:
        """A truth value where the state cannot change it, else a test. Atoms are tested before larger parts."""
        operator = formula[0]
        if operator in ("and", "or"):
            parts = sorted(formula[1:], key=lambda part: part[0] in _OPERATORS)
            return self.junction([self.ground(part, env) for part in parts], every=operator == "and")
        if operator == "not":
            return _negated(self.ground(formula[1], env))
        if operator == "imply":
            return self.junction([_negated(self.ground(formula[1], env)), self.ground(formula[2], env)], every=False)
        if operator == "exists":
            return self.exists(formula, env)
        if operator == "forall":
            return _negated(self.exists(formula, env))
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
                return lambda state: first(state) and second(state)
            return lambda state: all(test(state) for test in tests)

        return lambda state: any(test(state) for test in tests)

    def exists(self, quantified: Formula, env: Mapping[str, str]) -> bool | Test:
        """Some values of the variables satisfy the body; for `forall`, some violate it."""
        scope = self.scopes.get(id(quantified))
        if scope is None:
            scope = self.scopes[id(quantified)] = self.scope(quantified, env)
        known = {variable: value for variable, value in env.items() if variable not in scope.variables}
        cases = self.bindings(scope.variables, scope.guides, known)
        return self.junction(
            [self.junction([self.ground(part, case) for part in scope.rest], every=True) for case in cases], every=False
        )

    def scope(self, quantified: Formula, env: Mapping[str, str]) -> _Scope:
        operator, variables, body = quantified
        if operator == "forall":
            body = ("not", body)
        own = dict(variables)
        for kind in own.values():
            if kind not in self.domains:
                raise self.error(f"quantifies over the unknown type {kind[:60]!r}")
        guides, rest = [], []
        for part in body[1:] if body[0] == "and" else (body,):
            arity = len(SIGNATURES.get(part[0], ()))
            strangers = [argument for argument in part[1:] if argument not in own] if arity else []
            unchanging = arity and part[0] not in READS
            if unchanging and len(strangers) < arity and len(set(part[1:])) == arity == len(part) - 1:
                for argument in strangers:
                    self.resolve(argument, env)
                guides.append((part[0], part[1:]))
            else:
                rest.append(part)
        rest.sort(key=lambda part: part[0] in _OPERATORS)
        return _Scope(own, tuple(guides), tuple(rest))

    def bindings(
        self, variables: Mapping[str, str], guides: _Guides, env: Mapping[str, str]
    ) -> Iterator[Mapping[str, str]]:
        """All values of `variables` that satisfy every guide, most constrained variable first."""
        self.count()
        if not variables:
            yield env
            return
        choices = {variable: self.candidates(variable, kind, guides, env) for variable, kind in variables.items()}
        chosen = min(choices, key=lambda variable: len(choices[variable]))
        others = {variable: kind for variable, kind in variables.items() if variable != chosen}
        for value in choices[chosen]:
            yield from self.bindings(others, guides, {**env, chosen: value})

    def candidates(self, variable: str, kind: str, guides: _Guides, env: Mapping[str, str]) -> Sequence[str]:
        """Values that satisfy all guides whose other argument is known. (Each guide is known once its last variable is
        chosen, so none is forgotten.)"""
        found: Set[str] | None = None
        for predicate, arguments in guides:
            if variable not in arguments:
                continue
            if len(arguments) == 1:
                fitting: Set[str] = self.facts.unary.get(predicate, frozenset())
            else:
                position = arguments.index(variable)
                other = arguments[1 - position]
                if other.startswith("?") and other not in env:
                    continue
                fitting = self.partners_of(predicate, position).get(env.get(other, other), frozenset())
            found = fitting if found is None else found & fitting
        if found is None:
            return self.domains[kind]
        return [thing for thing in found if kind in ("object", self.facts.kinds[thing])]

    def partners_of(self, predicate: str, position: int) -> dict[str, set[str]]:
        table = self.partners.get((predicate, position))
        if table is None:
            table = self.partners[predicate, position] = {}
            for pair in self.facts.binary.get(predicate, ()):
                table.setdefault(pair[1 - position], set()).add(pair[position])
        return table

    def resolve(self, argument: str, env: Mapping[str, str]) -> str:
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
            return lambda state: thing in state.checked
        if predicate == "holdsany":
            return lambda state: state.held >= 0
        numbers = [self.facts.index.get(argument, -1) for argument in arguments]
        last = numbers[-1]
        if predicate == "inreceptacle":
            item = numbers[0]
            return lambda state: item in state.contents[last]
        if predicate == "atlocation":
            return lambda state: state.location == last
        if predicate == "objectatlocation":
            item = numbers[0]
            return lambda state: last in state.places_of(item)
        if predicate == "opened":
            return lambda state: state.is_opened(last)
        if predicate == "holds":
            return lambda state: state.held == last
        flag = FLAG_OF[predicate]
        return lambda state: bool(state.flags[last] & flag)


def _lowered(formula: Formula) -> Formula:
    """PDDL is case-blind."""
    operator = formula[0].lower()
    if operator in ("exists", "forall"):
        variables = tuple((variable.lower(), kind.lower()) for variable, kind in formula[1])
        return (operator, variables, _lowered(formula[2]))
    if operator in _OPERATORS:
        return (operator, *map(_lowered, formula[1:]))
    return tuple(map(str.lower, formula))


def _negated(result: bool | Test) -> bool | Test:
    if isinstance(result, bool):
        return not result
    return lambda state: not result(state)
