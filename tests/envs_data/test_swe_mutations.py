"""Slips of the hand: small splices of source, in functions only, in a fixed order."""

import ast
from pathlib import Path
from textwrap import dedent

import pytest

from envs_data.swebench.mutations import Mutation, is_change, mutations, shuffled

KINDS = [
    ("return a < b", "comparison", "return a <= b"),
    ("return a is not b", "comparison", "return a is b"),
    ("return (a) not in (b)", "comparison", "return (a) in (b)"),
    ("x = a and b", "boolean operator", "x = a or b"),
    ("x = a + b", "arithmetic operator", "x = a - b"),
    ("x += b", "arithmetic operator", "x -= b"),
    ("x = a if b.c else d", "negated condition", "x = a if not b.c else d"),
    ("while a and b: pass", "negated condition", "while not (a and b): pass"),
    ("x = not a", "missing not", "x = a"),
    ("x = -a", "sign", "x = a"),
    ("x = 7", "constant off by one", "x = 8"),
    ("x = True", "flipped constant", "x = False"),
    ("return a, b", "return value", "return b, a"),
    ("return f()", "return value", "return None"),
    ("x = a[b:c]", "slice bound", "x = a[b:]"),
    ("x = a[:c]", "slice bound", "x = a[:c - 1]"),
    ("x = f(a, b)", "swapped arguments", "x = f(b, a)"),
    ("x = f(a, b=c)", "missing argument", "x = f(a)"),
    ("x = min(a)", "wrong function", "x = max(a)"),
    ("x = range(a)", "range off by one", "x = range(a - 1)"),
    ("x = a.strip()", "missing call", "x = a"),
    ("a.append(b)", "missing statement", "pass"),
    ("for x in a: break", "loop jump", "for x in a: continue"),
    ("raise ValueError(a)", "exception type", "raise TypeError(a)"),
]


def of(body: str) -> tuple[bytes, list[Mutation]]:
    source = f"def f(a, b):\n    {body}\n".encode()
    return source, mutations(source)


@pytest.mark.parametrize(("body", "kind", "outcome"), KINDS)
def test_each_kind_of_slip(body: str, kind: str, outcome: str) -> None:
    source, found = of(body)
    outcomes = {one.apply(source).decode() for one in found if one.kind == kind}
    assert f"def f(a, b):\n    {outcome}\n" in outcomes


def test_a_splice_leaves_every_other_byte_alone() -> None:
    source = 'def f(a):  # ‹é›\r\n    x = "ä" + a   ;y=(a\t<b)\r\n    return  x\r\n'.encode()
    (one,) = [one for one in mutations(source) if one.kind == "comparison"]
    assert one.apply(source) == source.replace(b"<b", b"<=b")
    assert source[one.start : one.end] == b"<" and one.line == 2


def test_what_is_left_alone() -> None:
    source = dedent('''
        """Doc 1 < 2."""
        from typing import TYPE_CHECKING, overload
        __version__ = "1"
        __all__ = ["f"]
        LIMIT = 3 + 4

        if TYPE_CHECKING:
            def hidden(a): return a < 1

        class C:
            size = 2
            @overload
            def g(self, a: 1) -> 2: return 3
            @cached(4)
            def h(self, a: Literal[5]) -> Literal[6]:
                """7 < 8"""
                if TYPE_CHECKING:
                    return 9
                x: Literal[10] = a
                assert x, 11
                return f"{x + 12}"

        def __getattr__(name): return 13
    ''').encode()
    assert mutations(source) == []


def test_defaults_of_functions_are_changed() -> None:
    source = b"def f(a=1, *, b=False): pass\n"
    assert {one.apply(source) for one in mutations(source)} == {
        b"def f(a=2, *, b=False): pass\n",
        b"def f(a=0, *, b=False): pass\n",
        b"def f(a=1, *, b=True): pass\n",
    }
    assert {one.kind for one in mutations(source)} == {"default value"}


def test_functions_are_named_as_python_names_them() -> None:
    source = b"class C:\n    def m(self):\n        def inner():\n            return 1 < 2\n        return inner\n"
    assert {one.function for one in mutations(source)} == {"C.m.<locals>.inner"}


def test_is_change_wants_a_valid_program_that_differs() -> None:
    source = b"def f():\n    x = (1)\n    return x\n"
    place = source.index(b"(1)")
    assert not is_change(Mutation("k", "f", 2, place, place + 3, "1"), source)  # only brackets
    assert not is_change(Mutation("k", "f", 2, place, place + 3, "1 +"), source)
    assert is_change(Mutation("k", "f", 2, place, place + 3, "2"), source)


def test_this_very_package_only_yields_programs() -> None:
    from envs_data.swebench import issues

    source = Path(issues.__file__).read_bytes()
    found = mutations(source)
    assert len(found) > 40
    for one in found[::5]:
        assert not one.text.count("\n") and ast.parse(one.apply(source))


def test_the_order_depends_on_the_seed_only_and_takes_functions_by_turns() -> None:
    source = b"".join(b"def f%d(a, b):\n    return a < b < 1 < 2 < 3\n" % n for n in range(9))
    found = mutations(source)
    order = shuffled(found, "x", 3)
    assert order == shuffled(found, "x", 3) != shuffled(found, "y", 3)
    assert len({one.function for one in order[:9]}) == 9 and len(order) == 27
