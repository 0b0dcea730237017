"""Read and write `game.tw-pddl` files, the JSON form in which ALFWorld ships its games.

A game file carries its whole domain and grammar. We interpret neither: their hashes say whether the native engine knows
the rules, and only the problem part is read. Nothing from a file is ever evaluated.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice

from envs_data.alfworld.problem import SIGNATURES, Dialect, Fact, Formula, Problem
from envs_data.errors import GameFileError

MAX_BYTES = 8_000_000
"""A larger file is refused before it is decoded (official ones have 56 to 130 kB)."""
MAX_GOAL_TOKENS = 20_000
MAX_GOAL_DEPTH = 60

KNOWN_DIALECTS: dict[tuple[str, str], Dialect] = {
    # json_2.1.1, whose domain lets objects be cleaned at sinks too
    (
        "34172c333dff7e62eb90e85367fa5519b5f31b3849e56123d96dbc0deda50e27",
        "de0a5951f63a9b4f91f174c56b77d639d55d935b828aa39d92a156b1670e0a5a",
    ): "old",
    # alfworld 0.4
    (
        "f1473041ed01da514de1f87adfd7ef0804862361f83ccf63c75e43633b0eb280",
        "c294eb280206a4428664cdb4e2037e267e86de5b7fa862212718a961513a7de4",
    ): "current",
}
"""(domain hash, grammar hash) → dialect, for the pairs whose rules the native engine reproduces."""

_KINDS = ("agent", "location", "receptacle", "object", "otype", "rtype")
_TASK = "Your task is to: "
_TASK_TEXT = re.compile(r"[A-Za-z0-9 ,.'()/:_-]{1,400}\Z")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]{0,99}\Z", re.ASCII)
_HEAD = re.compile(
    r"\s*\(\s*define\s*\(\s*problem\s+([^\s()]{1,200})\s*\)\s*\(\s*:domain\s+alfred\s*\)\s*\(\s*:objects\s([^()]*)\)\s*"
    r"\(\s*:init(?=[\s()])",
    re.IGNORECASE,
)
_GOAL = re.compile(r"\)\s*\(\s*:goal(?=[\s(])", re.IGNORECASE)
_DISTANCE = re.compile(r"\(\s*=\s*(?:\([^()]*\)|[\w-]+)\s*\d+\s*\)")
_COMMENT = re.compile(r";[^\n]*")
_METRIC = re.compile(r"\(\s*:metric[^()]*\([^()]*\)\s*\)", re.IGNORECASE)


class UnknownDialectError(GameFileError):
    """The native engine does not know the file's domain or grammar; the real engine may still play it."""


def parse_game(data: bytes | str, *, name: str, require_solvable: bool = True) -> Problem:
    """Read a whole `game.tw-pddl`. `name` is said in errors (a path, usually).

    Raises GameFileError for anything malformed, and for a game that is not marked solvable (alfworld's own loader skips
    those) unless `require_solvable` is off; UnknownDialectError for rules the native engine does not know.
    """
    game = _load_json(data, name)
    domain, grammar, text = (_text_field(game, key, name) for key in ("pddl_domain", "grammar", "pddl_problem"))
    if require_solvable and game.get("solvable") is not True:
        raise GameFileError(f"{name}: the game is not marked solvable; ALFWorld leaves such games out, so do the same")
    task, _ = _split_task(grammar, name)
    hashes = domain_hash(domain), grammar_hash(grammar)
    dialect = KNOWN_DIALECTS.get(hashes)
    if dialect is None:
        raise UnknownDialectError(
            f"{name}: unknown rules (domain {hashes[0][:12]}, grammar {hashes[1][:12]}); "
            'if you trust this file, play it with engine="textworld", which runs the rules it carries'
        )
    return parse_problem(text, task=task, dialect=dialect, name=name)


def domain_hash(domain: str) -> str:
    """SHA-256 (hex) of the domain text, line ends normalised."""
    return hashlib.sha256(domain.replace("\r\n", "\n").encode("utf-8", "surrogatepass")).hexdigest()


def grammar_hash(grammar: str) -> str:
    """SHA-256 (hex) of the grammar after the game's own task sentence has been blanked out, line ends normalised."""
    start = grammar.find(_TASK)
    end = grammar.find('"', start)
    if start >= 0 and end >= 0:
        grammar = grammar[:start] + _TASK + grammar[end:]
    return hashlib.sha256(grammar.replace("\r\n", "\n").encode("utf-8", "surrogatepass")).hexdigest()


def parse_problem(text: str, *, task: str, dialect: Dialect, name: str) -> Problem:
    """Read the PDDL problem text. Raises GameFileError."""
    if not text.isascii() or not text.replace("\n", "").replace("\t", "").replace("\r", "").isprintable():
        raise GameFileError(f"{name}: pddl_problem has characters no PDDL name has (control characters, non-ASCII)")
    if ";" in text:
        text = _COMMENT.sub("", text)
    head, goal = _HEAD.match(text), _GOAL.search(text)
    if not head or not goal or goal.start() < head.end():
        raise GameFileError(f"{name}: pddl_problem is cut off or not an alfred problem (objects, init and goal wanted)")
    objects = _objects(head[2], name)
    facts = _facts(text[head.end() : goal.start()], name)
    tail = text[goal.end() :]
    tokens = re.findall(r"[()]|[^\s()]+", _METRIC.sub("", tail) if ":metric" in tail.lower() else tail)
    if len(tokens) > MAX_GOAL_TOKENS:
        raise GameFileError(f"{name}: the goal has {len(tokens)} tokens, more than {MAX_GOAL_TOKENS}")
    stream = iter(tokens)
    formula = _formula(stream, _next(stream, name), name, 0)
    if list(islice(stream, 3)) != [")", ")"]:
        raise GameFileError(f"{name}: text is missing or left over after the goal")
    problem = Problem(name=head[1], objects=objects, facts=facts, goal=formula, task=task, dialect=dialect)
    check_problem(problem, name=name)
    return problem


def check_problem(problem: Problem, *, name: str) -> None:
    """Raise GameFileError unless every fact has a known predicate and declared arguments of the right types."""
    members: dict[str, set[str]] = {kind: set() for kind in _KINDS}
    for identifier, kind in problem.objects:
        if kind not in members:
            raise GameFileError(f"{name}: object {identifier[:60]!r} has the unknown type {kind[:60]!r}")
        members[kind].add(identifier)
    if len({identifier.lower() for identifier, _ in problem.objects}) != len(problem.objects):
        raise GameFileError(f"{name}: an object is declared twice (PDDL names are case-blind)")
    if (n_agents := len(members["agent"])) != 1:
        raise GameFileError(f"{name}: {n_agents} agents are declared; exactly one is wanted")
    rows: dict[str, list[Fact]] = {}
    for fact in problem.facts:
        rows.setdefault(fact[0], []).append(fact)
    for predicate, facts in rows.items():
        signature = SIGNATURES.get(predicate.lower())
        if signature is None:
            raise GameFileError(f"{name}: unknown predicate {predicate[:60]!r} in the initial state")
        if set(map(len, facts)) != {len(signature) + 1}:
            raise GameFileError(f"{name}: a fact of {predicate!r} has the wrong number of arguments")
        for kind, column in zip(signature, list(zip(*facts, strict=True))[1:], strict=True):
            if members[kind].issuperset(column):
                continue
            known = set(map(str.lower, members[kind]))  # written in another case, perhaps
            if strangers := set(map(str.lower, column)) - known:
                raise GameFileError(f"{name}: {min(strangers)[:60]!r} in {predicate!r} is not a declared {kind}")


def render_problem(problem: Problem) -> str:
    """PDDL problem text that the real engine loads and `parse_problem` reads back unchanged.

    Raises GameFileError for a problem whose names could not be written (or would mean something else in PDDL).
    """
    check_problem(problem, name=problem.name)
    for identifier in (problem.name, *(identifier for identifier, _ in problem.objects)):
        if not _NAME.match(identifier):
            raise GameFileError(f"{problem.name[:60]!r}: {identifier[:60]!r} cannot be written as a PDDL name")
    objects = "\n".join(f"    {identifier} - {kind}" for identifier, kind in problem.objects)
    facts = "\n".join(f"    ({' '.join(fact)})" for fact in problem.facts)
    return (
        f"(define (problem {problem.name})\n(:domain alfred)\n(:objects\n{objects}\n)\n"
        f"(:init\n{facts}\n)\n(:goal {_render_formula(problem.goal)})\n)\n"
    )


def render_game(problem: Problem, *, domain: str, grammar: str, walkthrough: Iterable[str] | None = None) -> str:
    """The JSON text of a whole game file.

    `domain` and `grammar` are the user's installed ones; the task sentence is put in the grammar's place for it.
    Raises GameFileError for a sentence that would break the grammar.
    """
    _, (start, end) = _split_task(grammar, "grammar")
    if not _TASK_TEXT.match(problem.task):
        raise GameFileError(f"{problem.name}: the task sentence {problem.task[:80]!r} cannot stand in a grammar")
    game: dict[str, object] = {
        "pddl_domain": domain,
        "grammar": grammar[:start] + problem.task + grammar[end:],
        "pddl_problem": render_problem(problem),
        "solvable": True,
    }
    return json.dumps(game if walkthrough is None else game | {"walkthrough": list(walkthrough)})


def _load_json(data: bytes | str, name: str) -> dict[str, object]:
    if len(data) > MAX_BYTES:
        raise GameFileError(f"{name}: {len(data)} bytes is more than a game may have ({MAX_BYTES})")
    try:
        game = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise GameFileError(f"{name}: not a JSON file, perhaps cut off ({str(error)[:120]}); fetch it again") from error
    if not isinstance(game, dict):
        raise GameFileError(f"{name}: the JSON holds a {type(game).__name__}, not a game's object")
    return game


def _text_field(game: dict[str, object], key: str, name: str) -> str:
    value = game.get(key)
    if not isinstance(value, str):
        raise GameFileError(f"{name}: field {key!r} is {'missing' if value is None else 'not text'}")
    return value


def _split_task(grammar: str, name: str) -> tuple[str, tuple[int, int]]:
    """The task sentence and where it stands in the grammar."""
    start = grammar.find(_TASK) + len(_TASK)
    end = grammar.find('"', start)
    if start < len(_TASK) or end < 0:
        raise GameFileError(f"{name}: the grammar holds no task sentence")
    if not _TASK_TEXT.match(task := grammar[start:end]):
        raise GameFileError(f"{name}: the task sentence {task[:80]!r} has characters no task has")
    return task, (start, end)


def _objects(text: str, name: str) -> tuple[tuple[str, str], ...]:
    """`a b - type c - type` → (a, type), (b, type), (c, type)."""
    tokens = text.split()
    if tokens[1::3].count("-") * 3 == len(tokens) == tokens.count("-") * 3:  # one by one, as in most files: quick
        return tuple(zip(tokens[::3], map(str.lower, tokens[2::3]), strict=True))
    typed: list[tuple[str, str]] = []
    waiting: list[str] = []
    stream = iter(tokens)
    for token in stream:
        if token != "-":
            waiting.append(token)
            continue
        kind = next(stream, "").lower()
        typed += [(identifier, kind) for identifier in waiting]
        waiting.clear()
    if waiting:
        raise GameFileError(f"{name}: object {waiting[0][:60]!r} is declared without a type")
    return tuple(typed)


def _facts(text: str, name: str) -> tuple[Fact, ...]:
    """Flat atoms only: splitting at parentheses is several times faster than a general reader."""
    if "=" in text:
        text = _DISTANCE.sub("", text)  # distances: the real engine drops them too
    pieces = text.split("(")
    if pieces[0].strip():
        raise GameFileError(f"{name}: stray text {pieces[0].strip()[:60]!r} in the initial state")
    facts: list[Fact] = []
    for piece in pieces[1:]:
        inside, closed, after = piece.partition(")")
        fact = tuple(inside.split())
        if not closed or not fact or (after and not after.isspace()):
            raise GameFileError(f"{name}: malformed fact ({piece.strip()[:80]!r} in the initial state)")
        facts.append(fact)
    return tuple(facts)


def _next(tokens: Iterator[str], name: str) -> str:
    token = next(tokens, None)
    if token is None:
        raise GameFileError(f"{name}: the goal is cut off")
    return token


def _formula(tokens: Iterator[str], token: str, name: str, depth: int) -> Formula:
    """One formula; `token` is its opening parenthesis, already taken from `tokens`."""
    if token != "(" or depth > MAX_GOAL_DEPTH:
        raise GameFileError(f"{name}: the goal is malformed near {token[:60]!r} or nested deeper than {MAX_GOAL_DEPTH}")
    head = _next(tokens, name)
    if head == ")":
        return ("and",)
    operator = head.lower()
    if operator in ("exists", "forall"):
        if _next(tokens, name) != "(":
            raise GameFileError(f"{name}: {operator} in the goal lacks its list of variables")
        variables = _objects(" ".join(_until_close(tokens, name)), name)
        body = _formula(tokens, _next(tokens, name), name, depth + 1)
        if _next(tokens, name) != ")":
            raise GameFileError(f"{name}: {operator} in the goal takes one formula")
        return (operator, variables, body)
    if operator not in ("and", "or", "not", "imply"):
        return (head, *_until_close(tokens, name))
    parts: list[Formula] = []
    while (token := _next(tokens, name)) != ")":
        parts.append(_formula(tokens, token, name, depth + 1))
    if operator in ("not", "imply") and len(parts) != (1 if operator == "not" else 2):
        raise GameFileError(f"{name}: {operator!r} in the goal has {len(parts)} parts")
    return (operator, *parts)


def _until_close(tokens: Iterator[str], name: str) -> Iterator[str]:
    while (token := _next(tokens, name)) != ")":
        if token == "(":
            raise GameFileError(f"{name}: the goal has a formula where a name is wanted")
        yield token


def _render_formula(formula: Formula) -> str:
    operator = formula[0]
    if operator in ("exists", "forall"):
        variables = " ".join(f"{variable} - {kind}" for variable, kind in formula[1])
        return f"({operator} ({variables}) {_render_formula(formula[2])})"
    if operator in ("and", "or", "not", "imply"):
        return f"({' '.join([operator, *map(_render_formula, formula[1:])])})"
    return f"({' '.join(formula)})"
