"""The kinds of slips, each a function from a node of the syntax tree to splices of the source."""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Splice:
    """Bytes `start` to `end` become `text`."""

    kind: str
    start: int
    end: int
    text: str


class _Source:
    """Where nodes lie in the bytes of a file."""

    def __init__(self, source: bytes, starts: list[int]) -> None:
        self.source = source
        self._starts = starts

    def span(self, node: Any) -> tuple[int, int]:
        """Byte offsets of an expression or a statement."""
        begin = self._starts[node.lineno - 1] + node.col_offset
        return begin, self._starts[node.end_lineno - 1] + node.end_col_offset

    def text(self, node: Any) -> str:
        begin, end = self.span(node)
        return self.source[begin:end].decode()

    def replace(self, kind: str, node: Any, text: str) -> Splice:
        return Splice(kind, *self.span(node), text)

    def between(self, left: Any, right: Any, word: str) -> tuple[int, int] | None:
        """Where the operator `word` stands between two nodes, if it stands there once and nothing else is there."""
        begin, end = self.span(left)[1], self.span(right)[0]
        gap = self.source[begin:end].decode()
        pattern = r"\s+".join(map(re.escape, word.split()))
        pattern = rf"\b{pattern}\b" if word[0].isalpha() else pattern
        if not re.fullmatch(rf"[\s()\\]*{pattern}[\s()\\]*", gap):
            return None
        match = re.search(pattern, gap)
        assert match is not None
        return begin + match.start(), begin + match.end()


_COMPARE = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_ARITHMETIC = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "+"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "//"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}
_EXCEPTIONS = {
    "ValueError": "TypeError",
    "TypeError": "ValueError",
    "KeyError": "IndexError",
    "IndexError": "KeyError",
    "AttributeError": "KeyError",
    "StopIteration": "ValueError",
    "NotImplementedError": "TypeError",
}
_FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any", "isinstance": "", "issubclass": ""}
_DROPPED = {"strip", "lstrip", "rstrip", "copy", "lower", "upper", "title", "capitalize", "casefold"}


def _compare(node: ast.Compare, at: _Source) -> Iterator[Splice]:
    operands = [node.left, *node.comparators]
    for left, operator, right in zip(operands, node.ops, operands[1:]):
        old, new = _COMPARE[type(operator)]
        if place := at.between(left, right, old):
            yield Splice("comparison", *place, new)


def _boolean(node: ast.BoolOp, at: _Source) -> Iterator[Splice]:
    old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
    for left, right in zip(node.values, node.values[1:]):
        if place := at.between(left, right, old):
            yield Splice("boolean operator", *place, new)


def _binary(node: ast.BinOp, at: _Source) -> Iterator[Splice]:
    sides = (node.left, node.right)
    if type(node.op) not in _ARITHMETIC or any(_is_text(side) for side in sides):
        return
    old, new = _ARITHMETIC[type(node.op)]
    if place := at.between(*sides, old):
        yield Splice("arithmetic operator", *place, new)


def _augmented(node: ast.AugAssign, at: _Source) -> Iterator[Splice]:
    if type(node.op) in (ast.Add, ast.Sub) and not _is_text(node.value):
        old, new = ("+=", "-=") if isinstance(node.op, ast.Add) else ("-=", "+=")
        if place := at.between(node.target, node.value, old):
            yield Splice("arithmetic operator", *place, new)


def _condition(node: ast.If | ast.While | ast.IfExp, at: _Source) -> Iterator[Splice]:
    if isinstance(node.test, (ast.UnaryOp, ast.Compare, ast.Constant)):
        return  # these have slips of their own
    text = at.text(node.test)
    simple = isinstance(node.test, (ast.Name, ast.Attribute, ast.Call, ast.Subscript))
    yield at.replace("negated condition", node.test, f"not {text}" if simple else f"not ({text})")


def _unary(node: ast.UnaryOp, at: _Source) -> Iterator[Splice]:
    if isinstance(node.op, ast.Not):
        yield at.replace("missing not", node, at.text(node.operand))
    elif isinstance(node.op, ast.USub):
        yield at.replace("sign", node, at.text(node.operand))


def _constant(node: ast.Constant, at: _Source) -> Iterator[Splice]:
    if isinstance(node.value, bool):
        yield at.replace("flipped constant", node, str(not node.value))
    elif isinstance(node.value, int):
        yield at.replace("constant off by one", node, str(node.value + 1))
        if node.value > 0:
            yield at.replace("constant off by one", node, str(node.value - 1))


def _returned(node: ast.Return, at: _Source) -> Iterator[Splice]:
    value = node.value
    if isinstance(value, ast.Tuple) and len(value.elts) == 2:
        first, second = map(at.text, value.elts)
        begin, end = at.span(value.elts[0])[0], at.span(value.elts[1])[1]
        if first != second:
            yield Splice("return value", begin, end, f"{second}, {first}")
    elif isinstance(value, (ast.Compare, ast.BoolOp)):
        yield at.replace("return value", value, f"not ({at.text(value)})")
    elif isinstance(value, (ast.Call, ast.BinOp)):
        yield at.replace("return value", value, "None")
    elif isinstance(value, ast.IfExp):
        yield at.replace("return value", value, at.text(value.body))


def _sliced(node: ast.Slice, at: _Source) -> Iterator[Splice]:
    if node.lower and node.upper:
        yield Splice("slice bound", at.span(node.upper)[0], at.span(node.upper)[1], "")
    for bound, change in ((node.lower, "+ 1"), (node.upper, "- 1")):
        if isinstance(bound, (ast.Name, ast.Attribute, ast.Call)):
            yield at.replace("slice bound", bound, f"{at.text(bound)} {change}")


def _call(node: ast.Call, at: _Source) -> Iterator[Splice]:
    plain = [one for one in node.args if not isinstance(one, ast.Starred)]
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name == "range":
        last = node.args[-1] if len(node.args) == 1 else node.args[1]
        yield at.replace("range off by one", last, f"{at.text(last)} - 1")
        yield at.replace("range off by one", last, f"{at.text(last)} + 1")
    elif len(plain) == len(node.args) >= 2 and name not in _FUNCTIONS:
        first, second = map(at.text, plain[:2])
        if first != second:
            begin, end = at.span(plain[0])[0], at.span(plain[1])[1]
            yield Splice("swapped arguments", begin, end, f"{second}, {first}")
    if new := _FUNCTIONS.get(name):
        yield at.replace("wrong function", node.func, new)
    if isinstance(node.func, ast.Attribute) and node.func.attr in _DROPPED:
        yield at.replace("missing call", node, at.text(node.func.value))
    parts: list[ast.expr | ast.keyword] = [*node.args, *node.keywords]
    if len(parts) >= 2 and isinstance(parts[-1], ast.keyword) and parts[-1].arg:
        yield Splice("missing argument", at.span(parts[-2])[1], at.span(parts[-1])[1], "")


def _statement(node: ast.Expr, at: _Source) -> Iterator[Splice]:
    if isinstance(node.value, ast.Call):
        yield at.replace("missing statement", node, "pass")


def _defaults(node: ast.arguments, at: _Source) -> Iterator[Splice]:
    for default in (*node.defaults, *(one for one in node.kw_defaults if one)):
        if isinstance(default, ast.Constant):
            for splice in _constant(default, at):
                yield Splice("default value", splice.start, splice.end, splice.text)


def _jump(node: ast.Break | ast.Continue, at: _Source) -> Iterator[Splice]:
    yield at.replace("loop jump", node, "continue" if isinstance(node, ast.Break) else "break")


def _raised(node: ast.Raise, at: _Source) -> Iterator[Splice]:
    named = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    if isinstance(named, ast.Name) and named.id in _EXCEPTIONS:
        yield at.replace("exception type", named, _EXCEPTIONS[named.id])


def _caught(node: ast.ExceptHandler, at: _Source) -> Iterator[Splice]:
    if isinstance(node.type, ast.Tuple):
        yield at.replace("exception type", node.type, at.text(node.type.elts[0]))
    elif isinstance(node.type, ast.Name) and node.type.id in _EXCEPTIONS:
        yield at.replace("exception type", node.type, _EXCEPTIONS[node.type.id])


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)))


_OPERATORS: dict[type[ast.AST], Callable[[Any, _Source], Iterator[Splice]]] = {
    ast.Compare: _compare,
    ast.BoolOp: _boolean,
    ast.BinOp: _binary,
    ast.AugAssign: _augmented,
    ast.If: _condition,
    ast.While: _condition,
    ast.IfExp: _condition,
    ast.UnaryOp: _unary,
    ast.Constant: _constant,
    ast.Return: _returned,
    ast.Slice: _sliced,
    ast.Call: _call,
    ast.Expr: _statement,
    ast.arguments: _defaults,
    ast.Break: _jump,
    ast.Continue: _jump,
    ast.Raise: _raised,
    ast.ExceptHandler: _caught,
}


def splices(node: ast.AST, source: bytes, starts: list[int]) -> Iterator[Splice]:
    """Slips at this very node; `starts` are the byte offsets of the lines."""
    if operator := _OPERATORS.get(type(node)):
        yield from operator(node, _Source(source, starts))
