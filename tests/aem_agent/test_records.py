"""Episode records and run folders: exact round trips, nothing lost, typed errors for whatever else is in the file."""

import errno
import json
import math
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aem_agent.record_format import BadRecordError
from aem_agent.records import (
    EpisodeWriter,
    RecordError,
    RecordWriteError,
    RunFolderError,
    dump_line,
    parse_line,
    read_episodes,
)
from aem_agent.run_folder import RunFolder, write_json
from aem_agent.types import Episode, Response, Turn

text = st.text(st.characters(exclude_categories=()), max_size=8).filter(
    # a pair of surrogates is read as the character it spells: the one thing that is not kept as it was
    lambda s: not any("\ud800" <= a < "\udc00" <= b < "\ue000" for a, b in pairwise(s))
)
number = st.floats(allow_nan=False)
bounded = st.floats(-1e100, 1e100)
ids = st.lists(st.integers(0, 10**6), max_size=4).map(tuple)
json_value = st.none() | st.booleans() | number | text
responses = st.builds(
    Response,
    usage=st.none() | st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)),
    cost=st.none() | st.floats(0, 1e9),
    text=text,
    token_ids=ids,
    logprobs=st.none() | st.lists(number, max_size=4).map(tuple),
    entropies=st.none() | st.lists(number, max_size=4).map(tuple),
    finish_reason=st.sampled_from(["stop", "length", "error"]),
    policy_versions=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=2).map(tuple),
)
turns = st.builds(
    Turn,
    observation=text,
    response=responses,
    action=text,
    prompt_token_ids=ids,
    format_valid=st.booleans(),
    format_error=st.none() | text,
    action_valid=st.booleans(),
    reward=bounded,
    info=st.dictionaries(text, json_value, max_size=3),
    dropped_turns=st.integers(0, 9),
)
episodes = st.builds(
    Episode,
    env_id=text,
    task_id=text,
    task_type=text,
    split=text,
    repeat=st.integers(0, 9),
    seed=st.integers(0, 2**53),
    turns=st.lists(turns, max_size=3).map(tuple),
    final_observation=text,
    terminated=st.booleans(),
    truncated=st.booleans(),
    truncation_reason=st.none() | text,
    error=st.none() | text,
    return_=bounded,
    won=st.booleans(),
    score=bounded,
    retries=st.integers(0, 3),
    seconds=bounded,
    data_hash=text,
    engine=text,
    start_anchor=text,
)


def episode(task_id: str = "t", repeat: int = 0, **changes: Any) -> Episode:
    turn = Turn("see", Response("go", (1, 2), (-0.1, -0.2)), "go", (5, 6), reward=1.0, info={"won": True})
    return Episode("aem/Toy-v0", task_id, "walk", "test", repeat, 7, turns=(turn, turn), **changes)


@given(episodes)
def test_round_trip_is_exact(episode: Episode) -> None:
    line = dump_line(episode)
    assert line.isascii() and line.endswith(b"\n") and line.count(b"\n") == 1
    assert parse_line(line) == episode


def test_records_of_before_the_resets_anchor_was_kept_are_read() -> None:
    assert b"start_anchor" not in dump_line(episode()), "nothing is written of what is not known"
    known = dump_line(episode(start_anchor="s0"))
    assert parse_line(known) == episode(start_anchor="s0")
    assert parse_line(known.replace(b',"start_anchor":"s0"', b"")) == episode()


@pytest.mark.parametrize(
    "odd", ["", "\n", '"', "\\", "\\n", "\r", "\t", "\0", "\x1f", "\x7f", "é", "\ud800", "😀", "\u2028"]
)
def test_long_texts_are_written_by_a_short_cut_and_read_back(odd: str) -> None:
    text = f"{'x' * 200}{odd}y\nz"
    episode = Episode("e", "t", "", "", 0, 0, turns=(Turn(text, Response(text, finish_reason="length"), odd),))
    line = dump_line(episode)
    assert line.isascii() and line.count(b"\n") == 1 and parse_line(line) == episode


@pytest.mark.parametrize(
    "info",
    [
        {"score": 0.5, "won": True, "anchor": 'a"b', "action_error": None},
        {"score": 0.5, "won": False, "anchor": "", "action_error": "\nno"},
        {"score": math.inf, "won": False, "anchor": "", "action_error": None},
        {"score": 1, "won": 1, "anchor": 2, "action_error": None},
        {"score": 0.0, "won": False, "anchor": "", "other": None},
    ],
)
def test_infos_of_any_kind_are_read_back(info: dict[str, Any]) -> None:
    turn = Turn(
        "", Response("", (1,), (-0.5,), (0.25,), usage=(3, 4), cost=0.5), "", (7,), False, "why", False, -1.5, info, 2
    )
    assert parse_line(dump_line(Episode("e", "t", "", "", 0, 0, turns=(turn,)))).turns == (turn,)


def test_values_that_json_does_not_know_do_not_stop_a_record() -> None:
    strange = Episode("e", "t", "", "", 0, 0, turns=(Turn("", Response(""), "", info={"action_error": {1}}),))
    assert parse_line(dump_line(strange)).turns[0].info == {"action_error": "{1}"}


def test_append_flushes_and_reads_in_order(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    with EpisodeWriter(path) as writer:
        for n in range(3):
            writer.write(episode(repeat=n))
            assert [e.repeat for e in read_episodes(path)] == list(range(n + 1)), "written before write returns"
    with EpisodeWriter(path) as writer:
        writer.write(episode(repeat=3))
    assert list(read_episodes(path)) == [episode(repeat=n) for n in range(4)]


@pytest.mark.parametrize("cut", [1, 2, 40, -1])
def test_torn_last_line_is_left_out_and_repaired(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "episodes.jsonl"
    line = dump_line(episode(repeat=1))
    kept = 2 if cut == -1 else 1  # only the newline missing: the episode is whole
    path.write_bytes(dump_line(episode()) + line[:cut])
    assert len(list(read_episodes(path))) == kept
    with EpisodeWriter(path) as writer:
        writer.write(episode(repeat=9))
    assert [e.repeat for e in read_episodes(path)] == ([0, 1, 9] if kept == 2 else [0, 9])
    path.write_bytes(line[:cut])
    EpisodeWriter(path).close()
    assert path.read_bytes() == (line if cut == -1 else b"")


def test_long_torn_line_is_repaired(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    path.write_bytes(dump_line(episode()) + dump_line(episode(final_observation="x" * 300_000))[:-5])
    EpisodeWriter(path).close()
    assert list(read_episodes(path)) == [episode()]


def test_full_disk_loses_nothing_earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "episodes.jsonl"
    real_write = os.write

    def half_then_full(fd: int, data: Any) -> int:
        if len(data) > 100:
            return real_write(fd, data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    with EpisodeWriter(path) as writer:
        writer.write(episode())
        monkeypatch.setattr(os, "write", half_then_full)
        with pytest.raises(RecordWriteError, match=r"No space left on device; free some space and resume"):
            writer.write(episode(repeat=1))
        monkeypatch.undo()
        assert path.read_bytes() == dump_line(episode()), "the half-written line is taken back"
        writer.write(episode(repeat=2))
    assert [e.repeat for e in read_episodes(path)] == [0, 2]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    with EpisodeWriter(path), pytest.raises(RecordWriteError, match="another run"):
        EpisodeWriter(path)
    EpisodeWriter(path).close()
    with pytest.raises(RecordWriteError, match="cannot open"):
        EpisodeWriter(tmp_path / "absent" / "episodes.jsonl")


GOOD = json.loads(dump_line(episode()))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\n", "not JSON"),
        (b"[1]\n", "episode is not an object"),
        (b"\xff\xfe\n", "not JSON"),
        (b"[" * 100_000 + b"\n", "not JSON"),
        (b'{"seed": ' + b"9" * 5000 + b"}\n", "not JSON"),
        (json.dumps({**GOOD, "extra": 1}).encode() + b"\n", "unknown fields: extra"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "seed"}).encode() + b"\n", "lacks the fields: seed"),
        (json.dumps({**GOOD, "seed": True}).encode() + b"\n", "episode.seed: 'True' is not of type int"),
        (json.dumps({**GOOD, "won": 1}).encode() + b"\n", "episode.won"),
        (json.dumps({**GOOD, "return_": "x"}).encode() + b"\n", "episode.return_: 'x' is not a number"),
        (json.dumps({**GOOD, "score": 10**400}).encode() + b"\n", "too large"),
        (json.dumps({**GOOD, "turns": [{}]}).encode() + b"\n", "turn lacks the fields: observation, response, action"),
        (json.dumps({**GOOD, "turns": {}}).encode() + b"\n", "is not of type list"),
        (dump_line(episode()).replace(b'"go","token_ids"', b'7,"token_ids"'), "turn.response: response.text"),
        (dump_line(episode()).replace(b"[1,2]", b'[1,"2"]'), "response.token_ids"),
    ],
)
def test_hostile_lines_are_typed_errors_with_their_number(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "episodes.jsonl"
    path.write_bytes(dump_line(episode()) + line + dump_line(episode()))
    with pytest.raises(RecordError, match="line 2: ") as raised:
        list(read_episodes(path))
    assert reason in str(raised.value)
    assert ("not JSON" in str(raised.value)) == (reason == "not JSON")
    with pytest.raises(BadRecordError):
        parse_line(line)


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cannot read"):
        list(read_episodes(tmp_path / "none.jsonl"))


CONFIG = {"env": "aem/Toy-v0", "seed": 1, "nested": {"split": "test", "n": 5}}


def test_run_folder(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "a" / "run", CONFIG)
    assert folder.episodes() == [] and folder.completed() == set()
    with folder.writer() as writer:
        writer.write(episode("a"))
        writer.write(episode("b", error="EngineError: down"))
        writer.write(episode("b", error="EngineError: down again"))
    again = RunFolder.resume(folder.path, CONFIG)
    assert again.completed() == {("a", 0)}
    with again.writer() as writer:
        writer.write(episode("b"))
    assert RunFolder.open(folder.path).episodes() == [episode("a"), episode("b")]
    head = json.loads((folder.path / "config.json").read_text())
    assert head["config"] == CONFIG and head["schema_version"] == 1 and "gymnasium" in head["versions"]
    folder.write_summary({"n": 2})
    folder.write_report("<p>\ud800</p>")
    assert {p.name for p in folder.path.iterdir()} == {"config.json", "episodes.jsonl", "summary.json", "report.html"}


def test_run_folder_refuses_what_does_not_fit(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", CONFIG)
    with pytest.raises(RunFolderError, match="already holds a run"):
        RunFolder.create(folder.path, CONFIG)
    with pytest.raises(RunFolderError, match=r"nested\.n: 5 → 6; seed: 1 → 2"):
        RunFolder.resume(folder.path, {**CONFIG, "seed": 2, "nested": {"split": "test", "n": 6}})
    with pytest.raises(RunFolderError, match=r"no config\.json"):
        RunFolder.open(tmp_path)
    file = folder.path / "config.json"
    head = json.loads(file.read_text())
    write_json(file, {**head, "schema_version": 99})
    with pytest.raises(RunFolderError, match="schema version 99, this software reads 1"):
        RunFolder.open(folder.path)
    write_json(file, {**head, "config": {**CONFIG, "seed": 3}})
    with pytest.raises(RunFolderError, match="does not match its hash"):
        RunFolder.open(folder.path)
    file.write_bytes(b"{")
    with pytest.raises(RunFolderError, match="cannot read"):
        RunFolder.open(folder.path)
    with pytest.raises(RecordWriteError, match="cannot make the folder"):
        RunFolder.create(file / "sub", CONFIG)
