"""Spaces, the registry of plugins, snapshots' wrapping, neutralising of hostile text, settings of the command line."""

import copy
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aem_envs import BadOptionError, BadStateError, FreeText, make_expert
from aem_envs import snapshot as snapshots
from aem_envs.actions import MAX_ACTION, read_action, shown
from aem_envs.cli_common import CliError, parse_settings, run_main
from aem_envs.plugins import Registry, UnknownPluginError
from aem_envs.registration import UnknownEnvError
from aem_envs.render import ansi, page
from aem_envs.sanitize import for_html, plain
from envs_data.errors import GameFileError


def test_free_text_holds_every_encodable_string():
    space = FreeText(max_length=5)
    assert "" in space and "é𝄞 \n" in space
    assert "abcdef" not in space and "\ud800" not in space and b"x" not in space and None not in space
    assert space == FreeText(5) != FreeText(6)
    assert all(space.sample() in FreeText() for _ in range(20))


def test_free_text_samples_by_its_own_seed():
    first, second = FreeText(seed=3), FreeText(seed=3)
    assert [first.sample() for _ in range(5)] == [second.sample() for _ in range(5)]


@pytest.mark.parametrize(
    ("action", "parsed", "refused"),
    [
        ("  Go   TO\tcabinet 1 \n", "go to cabinet 1", False),
        ("É", "é", False),
        ("", "", True),
        (" \n", "", True),
        ("x" * (MAX_ACTION + 1), None, True),
        ("\ud800", None, True),
        (None, None, True),
        (b"look", None, True),
    ],
)
def test_reading_actions(action, parsed, refused):
    found, error = read_action(action)
    assert found == parsed and (error is not None) == refused
    assert isinstance(shown(action), str) and len(shown(action)) <= 1_000


@given(st.text())
def test_plain_leaves_no_control_character(text):
    shown = plain(text)
    assert not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in shown)
    assert plain(shown) == shown


def test_html_is_escaped_and_self_contained():
    text = page("<b>", [(None, "<script>alert(1)</script>"), ('"><img src=x>', "a\x1b[31mb")])
    assert "<script" not in text and "<img" not in text and "\x1b" not in text and "&lt;script&gt;" in text
    assert "http" not in text and for_html('"') == "&quot;"
    assert ansi("a\x1b[2J", "b\rc") == "> a␛[2J\nb␍c\n"


def test_registry_loads_when_asked_and_says_what_it_knows():
    registry: Registry[object] = Registry("things")
    registry.add("json", "json:dumps")
    assert registry.get("json") is json.dumps and registry.get("json:loads") is json.loads
    for name in ("nothing", "json:nothing", "no_such_module:x"):
        with pytest.raises(UnknownPluginError, match="thing"):
            registry.get(name)
    with pytest.raises(UnknownPluginError, match="known: json"):
        registry.get("jsn")


def test_make_expert_refuses_options_it_does_not_take():
    assert make_expert("aem/Toy-v0", "expert", noise=0.5)
    with pytest.raises(BadOptionError, match="nose"):
        make_expert("aem/Toy-v0", "expert", nose=0.5)
    with pytest.raises(UnknownPluginError, match="aem/Toy-v0 has no expert 'genius'; it has: expert"):
        make_expert("aem/Toy-v0", "genius")
    known = "known: aem/ALFWorld-v0, aem/SWEBench-v0, aem/Toy-v0"
    with pytest.raises(UnknownEnvError, match=f"unknown environment 'aem/Nope-v0'; {known}"):
        make_expert("aem/Nope-v0")
    with pytest.raises(BadOptionError, match="probability"):
        make_expert("aem/Toy-v0", noise=2)


def test_random_state_survives_json():
    rng = np.random.Generator(np.random.PCG64(5))
    rng.integers(10, size=3, dtype=np.uint32)
    twin = snapshots.rng_from_json(json.loads(json.dumps(snapshots.rng_to_json(rng))))
    assert twin.random() == rng.random() and twin.integers(1000) == rng.integers(1000)


@pytest.mark.parametrize(
    "words", [[], [1, 1, 0], [0, 2, 0, 0], [0, 1, 2, 0], [-1, 1, 0, 0], [1.0, 1, 0, 0], [True, 1, 0, 0]]
)
def test_bad_random_states_are_refused(words):
    with pytest.raises(BadStateError):
        snapshots.rng_from_json(words)


@given(
    st.binary(max_size=80) | st.text(max_size=80) | st.recursive(st.integers() | st.text(), st.lists).map(json.dumps)
)
def test_unpack_raises_nothing_else_than_bad_state(data):
    with pytest.raises(BadStateError):
        snapshots.unpack(data.encode(errors="replace") if isinstance(data, str) else data, "x", {"a": int})


def test_unpack_wants_exact_types():
    assert snapshots.unpack(snapshots.pack("x", {"a": 1}), "x", {"a": int}) == {"a": 1}
    for value in (True, 1.0, "1", None):
        with pytest.raises(BadStateError, match="'a'"):
            snapshots.unpack(snapshots.pack("x", {"a": value}), "x", {"a": int})
    with pytest.raises(BadStateError, match="format"):
        snapshots.unpack(snapshots.pack("y", {"a": 1}), "x", {"a": int})


def test_settings_are_typed_literals():
    items = ["a=1", "b=true", "c=x=y", "d.e=1e-3", "f='1'", "g=[1]", "h=None", "i=", "j=a b"]
    expected = {"a": 1, "b": True, "c": "x=y", "d.e": 1e-3, "f": "1", "g": "[1]", "h": None, "i": "", "j": "a b"}
    assert parse_settings(items) == expected


@pytest.mark.parametrize("item", ["a", "=1", "a b=1", "a.=1", "a=1e999", "1=2"])
def test_malformed_settings_are_refused(item):
    with pytest.raises(CliError):
        parse_settings([item])


def test_a_setting_given_twice_is_refused():
    with pytest.raises(CliError, match="twice"):
        parse_settings(["a=1", "a=2"])


@pytest.mark.parametrize(
    ("outcome", "code", "said"),
    [
        (None, 0, ""),
        (1, 1, ""),
        (GameFileError("bad\x1b[2J\nfile"), 2, "error: bad␛[2J file\n"),
        (FileNotFoundError(2, "gone", "x"), 2, "error: [Errno 2] gone: 'x'\n"),
        (ImportError("no module"), 2, "error: no module\n"),
        (KeyboardInterrupt(), 130, "\ninterrupted\n"),
    ],
)
def test_run_main_turns_outcomes_into_exit_codes(outcome, code, said, capsys):
    def body():
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    with pytest.raises(SystemExit) as stop:
        run_main(body)
    assert stop.value.code == code and capsys.readouterr().err == said


def test_run_main_keeps_the_traceback_of_a_bug():
    with pytest.raises(ZeroDivisionError):
        run_main(lambda: 1 // 0)


def test_space_survives_copying():
    space = FreeText(7)
    assert copy.deepcopy(space) == space
