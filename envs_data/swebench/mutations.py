"""Faults that a slip of the hand makes: small changes of Python source, each a splice of a few bytes.

Pure: text in, mutations out. Only bodies and defaults of functions change; docstrings, annotations, decorators, string
literals, messages of asserts, `if TYPE_CHECKING` and overloads stay as they are.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from envs_data.swebench.mutation_operators import Splice, splices


@dataclass(frozen=True)
class Mutation:
    """Replace bytes `start` to `end` of a source file by `text`."""

    kind: str
    """What sort of slip, such as "comparison"."""
    function: str
    """Qualified name of the enclosing function, such as `Schema.validate` or `outer.<locals>.inner`."""
    line: int
    """Line it is in, from 1."""
    start: int
    end: int
    text: str

    def apply(self, source: bytes) -> bytes:
        """The source with the fault in it."""
        return source[: self.start] + self.text.encode() + source[self.end :]


def mutations(source: bytes) -> list[Mutation]:
    """All mutations of a source file, in the order of the text; raises `SyntaxError`.

    Some make no difference or no valid program: ask `is_change`.
    """
    tree = ast.parse(source)
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    found: dict[tuple[int, int, str], Mutation] = {}
    for function, node in _nodes(tree):
        for splice in splices(node, source, starts):
            if _usable(splice, source):
                number = source.count(b"\n", 0, splice.start) + 1
                one = Mutation(splice.kind, function, number, splice.start, splice.end, splice.text)
                found.setdefault((splice.start, splice.end, splice.text), one)
    return sorted(found.values(), key=lambda one: (one.start, one.end, one.text))


def is_change(mutation: Mutation, source: bytes) -> bool:
    """Whether the outcome is a valid program, and another than the source."""
    try:
        mutated = ast.parse(mutation.apply(source))
    except (SyntaxError, ValueError):
        return False
    return ast.dump(mutated) != ast.dump(ast.parse(source))


def shuffled(found: list[Mutation], seed: str, per_function: int) -> list[Mutation]:
    """At most `per_function` mutations of each function in an order drawn from `seed`: functions and kinds by turns.

    So the first few dozen are of many functions and many kinds.
    """
    random = Random(seed)
    pool = list(found)
    random.shuffle(pool)
    seen_function: dict[str, int] = {}
    seen_kind: dict[str, int] = {}
    chosen: list[tuple[int, int, int, Mutation]] = []
    for position, one in enumerate(pool):
        outer = seen_function[one.function] = seen_function.get(one.function, 0) + 1
        kind = seen_kind[one.kind] = seen_kind.get(one.kind, 0) + 1
        if outer <= per_function:
            chosen.append((outer, kind, position, one))
    return [one for *_, one in sorted(chosen, key=lambda row: row[:3])]


def _usable(splice: Splice, source: bytes) -> bool:
    old = source[splice.start : splice.end]
    return b"\n" not in old and b"\n" not in splice.text.encode() and old != splice.text.encode()


def _nodes(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """(function, node) of every node that may change."""
    for statement in tree.body:
        yield from _outside(statement, "")


def _outside(node: ast.AST, scope: str) -> Iterator[tuple[str, ast.AST]]:
    """Below a module or a class: only functions are looked into."""
    if isinstance(node, ast.ClassDef):
        for statement in node.body:
            yield from _outside(statement, f"{scope}{node.name}.")
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        yield from _function(node, f"{scope}{node.name}")
    elif isinstance(node, (ast.If, ast.Try, ast.With)) and not _type_checking(node):
        for inner in ast.iter_child_nodes(node):
            yield from _outside(inner, scope)
    elif isinstance(node, ast.ExceptHandler):
        for inner in node.body:
            yield from _outside(inner, scope)


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> Iterator[tuple[str, ast.AST]]:
    decorators = {ast.unparse(one).rpartition(".")[2] for one in node.decorator_list}
    if "overload" in decorators or (node.name in ("__getattr__", "__dir__") and "." not in name):
        return
    yield name, node.args
    for statement in node.body:
        yield from _inside(statement, name)


def _inside(node: ast.AST, name: str) -> Iterator[tuple[str, ast.AST]]:
    """A node in a function, and what is below it."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        yield from _function(node, f"{name}.<locals>.{node.name}")
        return
    if isinstance(node, ast.ClassDef):
        yield from _outside(node, f"{name}.<locals>.")
        return
    if isinstance(node, ast.JoinedStr) or _type_checking(node):
        return  # places in f-strings are not exact before Python 3.12
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    yield name, node
    skipped = {
        id(part)
        for part in (getattr(node, "annotation", None), node.msg if isinstance(node, ast.Assert) else None)
        if part is not None
    }
    for inner in ast.iter_child_nodes(node):
        if id(inner) not in skipped:
            yield from _inside(inner, name)


def _type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
