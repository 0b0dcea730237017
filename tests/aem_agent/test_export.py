"""Episodes become training data: won ones, in a fixed order, any text intact."""

import json
import os
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from aem_agent.export import ExportError, export
from aem_agent.records import RecordWriteError
from aem_agent.run_folder import RunFolder, write_atomically
from aem_agent.types import Episode, Response, Turn


def episode(task: str, won: bool, error: str | None = None) -> Episode:
    turns = (Turn("room é\n\ud800", Response("<action>go</action>"), "go"), Turn("door", Response("open"), "open"))
    return Episode("aem/Toy-v0", task, "walk", "train", 0, 0, turns=turns, won=won, return_=float(won), error=error)


EPISODES = [episode("b", True), episode("a", True), episode("lost", False), episode("broken", True, error="X: y")]


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def test_sft_holds_won_episodes_in_order(tmp_path: Path) -> None:
    assert export(EPISODES, tmp_path / "x.jsonl") == (2, 4)
    first, second = lines(tmp_path / "x.jsonl")
    assert (first["task_id"], second["task_id"]) == ("a", "b")
    assert first["initial_observation"] == "room é\n\ud800"
    assert first["steps"] == [
        {"observation": "room é\n\ud800", "action": "go", "response": "<action>go</action>"},
        {"observation": "door", "action": "open", "response": "open"},
    ]
    assert {first["task_type"], first["split"], first["env_id"]} == {"walk", "train", "aem/Toy-v0"}


def test_all_adds_lost_ones_but_never_errors(tmp_path: Path) -> None:
    export(EPISODES, tmp_path / "x.jsonl", only_won=False)
    assert [line["task_id"] for line in lines(tmp_path / "x.jsonl")] == ["a", "b", "lost"]


def test_messages_say_actions_that_go_with_the_observations(tmp_path: Path) -> None:
    """ "open 1" answers a compact page; beside the whole one stands what it meant."""
    turns = (
        Turn("page", Response("open 1\n"), "click[b0ab]"),
        Turn("page", Response("<think>hm</think><action>click[x]</action>"), "click[x]"),
    )
    export([replace(EPISODES[0], turns=turns)], tmp_path / "x.jsonl", format="messages")
    said = [m["content"] for m in lines(tmp_path / "x.jsonl")[0]["messages"] if m["role"] == "assistant"]
    assert said == ["click[b0ab]", "<think>hm</think><action>click[x]</action>"]


def test_messages_alternate(tmp_path: Path) -> None:
    export(EPISODES[:1], tmp_path / "x.jsonl", format="messages")
    chat = lines(tmp_path / "x.jsonl")[0]["messages"]
    assert [m["role"] for m in chat] == ["user", "assistant"] * 2  # type: ignore[attr-defined]
    assert chat[1]["content"] == "<action>go</action>"  # type: ignore[index]


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--all"):
        export(EPISODES[2:], tmp_path / "x.jsonl")
    with pytest.raises(ExportError, match="sft, messages"):
        export(EPISODES, tmp_path / "x.jsonl", format="parquet")
    with pytest.raises(RecordWriteError):
        export(EPISODES, tmp_path / "absent" / "x.jsonl")
    assert not list(tmp_path.iterdir())


def test_nothing_in_a_run_folder_is_written_to(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", {})
    run.episodes_path.write_text("records")
    link = tmp_path / "link"
    link.symlink_to(run.episodes_path)
    for out in (run.episodes_path, run.path / "new.jsonl", run.path / "deep" / "new", link):
        with pytest.raises(ExportError, match="lies in the run folder"):
            export(EPISODES, out, force=True)
    run.path.joinpath("config.json").write_text('{"schema_version": 99}')
    with pytest.raises(ExportError, match="lies in the run folder"):
        export(EPISODES, run.episodes_path)
    assert run.episodes_path.read_text() == "records" and len(list(run.path.iterdir())) == 2


def test_a_file_that_exists_is_replaced_only_by_force_and_through_its_link(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("precious")
    link.symlink_to(file)
    for out in (file, link):
        with pytest.raises(ExportError, match="--force"):
            export(EPISODES, out)
    assert file.read_text() == "precious"
    export(EPISODES, link, force=True)
    assert link.is_symlink() and len(lines(file)) == 2
    (tmp_path / "dangling").symlink_to(tmp_path / "later")
    export(EPISODES, tmp_path / "dangling")
    assert len(lines(tmp_path / "later")) == 2


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    assert export(EPISODES, pipe) == (2, 4)
    reader.join(10)
    assert read[0].count(b"\n") == 2 and pipe.is_fifo() and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(RecordWriteError, match="directory"):
        write_atomically(tmp_path, b"")
