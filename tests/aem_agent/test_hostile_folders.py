"""Run folders from elsewhere: nothing outside them is written, nothing hangs, and what is odd is named."""

import json
import os
import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from eval_runs import aem_eval
from viewer_runs import episode, evaluation, head_of

from aem_agent import files
from aem_agent.evaluate import EvalConfig
from aem_agent.evaluation_record import KINDS
from aem_agent.records import RecordError, RecordWriteError, RunFolderError, dump_line, read_episodes
from aem_agent.run_folder import RunFolder, write_atomically, write_json
from aem_agent.summary import summarize
from aem_agent.types import Response, Turn
from aem_agent.viewer import write_comparison, write_view
from aem_agent.viewer.turns import thoughts
from aem_envs.toy import ToyEnv

PLAN: dict[str, Any] = {"tasks": 2, "repeats": 1, "split": "test", "env_id": "aem/Toy-v0", "model": "random"}


def played(folder: Path) -> RunFolder:
    """A run of two tasks, as `aem-eval run` leaves it."""
    assert aem_eval("run", "aem/Toy-v0", "-m", "random", "-n", "2", "--out", str(folder)) == 0
    return RunFolder.open(folder)


def changed(folder: Path, **settings: Any) -> RunFolder:
    """The folder under other settings, which are made to look as if it had them from the start."""
    old = RunFolder.open(folder).config
    for name in ("config.json", "episodes.jsonl"):
        (folder / name).unlink(missing_ok=True)
    return RunFolder.create(folder, {**old, **settings})


@pytest.mark.parametrize("kept", ["a token", "line\n"])
def test_no_link_is_written_through(tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: str) -> None:
    victims = {
        name: tmp_path / f"victim-{name}" for name in ("episodes.jsonl", "summary.json", "report.html", "view.html")
    }
    folder = played(tmp_path / "run")
    for name, victim in victims.items():
        victim.write_text(kept)
        if name != "episodes.jsonl":
            (folder.path / name).unlink(missing_ok=True)
            (folder.path / name).symlink_to(victim)
    assert aem_eval("score", str(folder.path)) == 0
    assert json.loads(folder.summary_path.read_text())["n"] == 2 and not folder.summary_path.is_symlink()
    assert aem_eval("view", str(folder.path), "--no-browser") == 2
    folder.episodes_path.unlink()
    folder.episodes_path.symlink_to(victims["episodes.jsonl"])
    assert aem_eval("run", "--resume", str(folder.path)) == 2
    assert "it is a link" in capsys.readouterr().err or kept.endswith("\n")  # a whole line is no episode
    assert {victim.read_text() for victim in victims.values()} == {kept}


def test_nobody_knows_the_name_that_is_written_under(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the old name, which had the process in it, nor any other that is there already."""
    victim = tmp_path / "victim"
    victim.write_text("kept")
    folder = evaluation(tmp_path / "run", [episode("t")])
    (folder.path / f".view.html.{os.getpid()}").symlink_to(victim)
    write_view(folder)
    monkeypatch.setattr(files.secrets, "token_hex", lambda n: "known")  # type: ignore[attr-defined]
    (folder.path / ".summary.json.known").symlink_to(victim)
    with pytest.raises(Exception, match="File exists"):
        write_json(folder.summary_path, {})
    assert victim.read_text() == "kept" and (folder.path / ".summary.json.known").is_symlink()


def test_a_path_that_was_typed_is_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (tmp_path / "link").symlink_to(target)
    write_atomically(tmp_path / "link", b"1", follow=True)
    assert target.read_bytes() == b"1" and (tmp_path / "link").is_symlink()
    write_atomically(tmp_path / "link", b"2")
    assert target.read_bytes() == b"1" and (tmp_path / "link").read_bytes() == b"2"
    write_atomically(Path(os.devnull), b"3", follow=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "target"]


@pytest.mark.parametrize("setting", ["scripted:PIPE", "scripted:/dev/zero", "/dev/zero", "FOLDER", "tokenizer", "data"])
def test_what_a_record_names_is_no_trap(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    trap = tmp_path / "trap"
    trap.mkdir()
    os.mkfifo(trap / "a.json")
    settings: dict[str, Any] = {"model": setting.replace("PIPE", str(trap / "a.json")).replace("FOLDER", str(trap))}
    if setting == "tokenizer":
        settings = {"model": "openai:m", "base_url": "http://127.0.0.1:9/v1", "tokenizer": str(trap)}
    if setting == "data":
        given = {"source": "official", "data": str(trap / "a.json")}
        settings = {"env_id": "aem/SWEBench-v0", "env": given, "split": "test", "model": "random"}
    run = played(tmp_path / "run").path
    changed(run, **settings)
    assert aem_eval("run", "--resume", str(run)) == 2
    assert "no regular file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["config.json", "episodes.jsonl"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, name: str, kind: str) -> None:
    folder = evaluation(tmp_path / "run", [episode("t")])
    path = folder.path / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    for command in (["view", "--no-browser"], ["score"], ["export", "--out", str(tmp_path / "out")]):
        assert aem_eval(command[0], str(folder.path), *command[1:]) == 2


def test_files_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = evaluation(tmp_path / "run", [episode("t")])
    monkeypatch.setattr("aem_agent.records.MAX_LINE", len(dump_line(episode("t"))) - 1)
    with pytest.raises(RecordError, match="line 1: longer than"):
        list(read_episodes(folder.episodes_path))
    with pytest.raises(RecordWriteError, match="an episode of u has more than"), folder.writer() as writer:
        writer.write(episode("u"))
    monkeypatch.setattr("aem_agent.files.MAX_CONFIG", 10)
    with pytest.raises(RunFolderError, match="it is larger than 10 bytes"):
        RunFolder.open(folder.path)


ODD: dict[str, Any] = {
    "env_id": 7, "model": 5, "engine": [], "env": [1], "split": [1], "tasks": "x", "repeats": None, "seed": 0.5,
    "max_steps": True, "temperature": "x", "max_new_tokens": {}, "prompt": 1, "base_url": 2, "tokenizer": 3,
    "prices": [1],
}  # fmt: skip
UNBOUNDED: dict[str, Any] = {"tasks": 10**4000, "repeats": 10**4000, "prices": [10**400, 1]}


def test_every_setting_has_its_types() -> None:
    assert set(KINDS) == {field.name for field in fields(EvalConfig)} == set(ODD)


@pytest.mark.parametrize("name", ODD)
def test_odd_settings_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    good, odd = played(tmp_path / "good").path, played(tmp_path / "odd").path
    changed(odd, **{name: ODD[name]})
    for command in (["score", str(odd)], ["compare", str(good), str(odd)], ["run", "--resume", str(odd)]):
        capsys.readouterr()
        assert aem_eval(*command) == 2
        assert f"its {name} is of type" in (said := capsys.readouterr().err) or "its prices are not two" in said


@pytest.mark.parametrize("name", UNBOUNDED)
def test_settings_without_bound_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    odd = changed(evaluation(tmp_path / "odd", []).path, **{name: UNBOUNDED[name]})
    assert aem_eval("score", str(odd.path)) == 2
    assert f"its {name} " in capsys.readouterr().err


def test_settings_of_any_depth_are_compared(tmp_path: Path) -> None:
    deep: list[dict[str, Any]] = [{"x": 1}, {"x": 2}]
    for _ in range(400):
        deep = [{"x": inner} for inner in deep]
    a, b = (evaluation(tmp_path / str(i), [episode("t")], env=env) for i, env in enumerate(deep))
    assert aem_eval("compare", str(a.path), str(b.path)) == 2
    assert len(head_of(write_comparison(a, b))["comparison"]["different"]) == 1


def test_odd_versions_are_none(tmp_path: Path) -> None:
    """They are outside of what the hash protects."""
    folder = played(tmp_path / "run")
    data = json.loads((folder.path / "config.json").read_text())
    write_json(folder.path / "config.json", {**data, "versions": [1]})
    assert aem_eval("score", str(folder.path)) == 0 and aem_eval("run", "--resume", str(folder.path)) == 0


def test_differences_are_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = evaluation(tmp_path / "a", [episode("t")]), evaluation(tmp_path / "b", [episode("t")], split="x" * 100_000)
    assert aem_eval("compare", str(a.path), str(b.path)) == 2
    assert 500 < len(capsys.readouterr().err) < 1000


@pytest.mark.parametrize("info", [{"details": ["a note"]}, {"details": {"x": float("nan")}}, {"details": 3},
                                  {"seconds": [1]}, {"seconds": {"a": "x"}}, {"seconds": None}])  # fmt: skip
def test_odd_details_of_a_record_count_for_nothing(tmp_path: Path, info: dict[str, Any]) -> None:
    odd = replace(episode("t"), turns=(Turn("", Response(""), "", info=info),))
    folder = evaluation(tmp_path / "run", [odd])
    assert aem_eval("score", str(folder.path)) == 0
    summary = json.loads(folder.summary_path.read_text(), parse_constant=pytest.fail)
    assert not any(summary["details"].values()) and not any(summary["phases"].values())


def test_details_without_bound(tmp_path: Path) -> None:
    turn = Turn("", Response(""), "", info={"details": {"x": 1.7e308}, "seconds": {"a": 1.7e308}})
    folder = evaluation(tmp_path / "run", [replace(episode(task), turns=(turn,)) for task in "ab"])
    assert aem_eval("score", str(folder.path)) == 0
    json.loads(folder.summary_path.read_text(), parse_constant=pytest.fail)


class OddEnv(ToyEnv):
    """Says of each step what it is told to say."""

    def __init__(self, *, odd: str = "", **rest: Any) -> None:
        super().__init__(**rest)
        self._odd = odd

    def step(self, action: str) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        told: dict[str, Any] = {
            "list": {"details": ["a note"]}, "keys": {"details": {(1, 2): 3}}, "score": {"score": float("inf")},
            "text": {"score": "much"},
        }  # fmt: skip
        if self._odd in ("reward", "digits"):
            reward = {"reward": 1e300, "digits": 10**400}[self._odd]
        return observation, reward, terminated, truncated, {**info, **told.get(self._odd, {})}


@pytest.mark.parametrize("odd", ["list", "keys", "score", "text", "reward", "digits"])
def test_an_environment_that_breaks_its_word_has_broken_down(tmp_path: Path, odd: str) -> None:
    """Its episodes are errors, and the run is summed up as any."""
    gym.register("test/Odd-v0", OddEnv)
    try:
        arguments = ("run", "test/Odd-v0", "-m", "random", "-n", "1", "--retries", "0", "--env", f"odd={odd}")
        assert aem_eval(*arguments, "--out", str(tmp_path / "run")) == 3
    finally:
        gym.registry.pop("test/Odd-v0")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["error_types"] == {"InfrastructureError": 1}


def test_sums_of_the_largest_rewards_are_read_back(tmp_path: Path) -> None:
    played = [replace(episode("t"), return_=1e100 * 500)]
    assert evaluation(tmp_path / "run", played).episodes() == played


@pytest.mark.parametrize("entropy", [1.7e308, 10**400])
def test_entropies_without_bound(tmp_path: Path, entropy: float) -> None:
    turn = Turn("", Response(""), "", info={"training": {"entropy": entropy}})
    page = write_view(evaluation(tmp_path / "run", [replace(episode("t"), turns=(turn, turn))]))
    assert head_of(page)["runs"][0]["columns"]["entropy"] == [None]


@pytest.mark.parametrize("field", ["repeat", "seed", "retries"])
def test_whole_numbers_without_bound(tmp_path: Path, field: str) -> None:
    folder = evaluation(tmp_path / "run", [episode("t")])
    data = json.loads(dump_line(episode("t")))
    folder.episodes_path.write_text(json.dumps({**data, field: 10**4000}) + "\n")
    with pytest.raises(RecordError, match=f"episode.{field}: a number too large"):
        write_view(folder)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1e200])
@pytest.mark.parametrize("field", ["score", "return_", "seconds"])
def test_no_sum_is_infinite(field: str, number: float, tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_bytes(dump_line(replace(episode("t"), **{field: number})))
    with pytest.raises(RecordError, match="not between"):
        list(read_episodes(tmp_path / "e.jsonl"))
    largest = [replace(episode(str(i)), **{field: 1e100}) for i in range(50)]
    json.loads(json.dumps(summarize(largest, env_id="e", split="s").to_json()), parse_constant=pytest.fail)


def test_a_search_that_would_not_end(tmp_path: Path) -> None:
    """Looking for the action in the response takes the product of their lengths."""
    n = 1_000_000
    slow = replace(episode("t"), turns=(Turn("", Response("a" * 2 * n), "ab" + "a" * n),))
    write_view(evaluation(tmp_path / "run", [slow]))


def test_thoughts_before_a_long_action() -> None:
    action = "cat > x <<'E'\n" + "line\n" * 2000 + "E"
    said = f"THOUGHT: {action[:5]} it\n```bash\n{action}\n```"
    assert thoughts(Turn("", Response(said), action)) == "THOUGHT: cat > it"


def test_only_reports_that_can_run_nothing_are_linked(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "run", [episode("t")])

    def linked() -> object:
        return head_of(write_view(folder))["runs"][0]["report"]

    assert linked() is None
    assert aem_eval("score", str(folder.path)) == 0
    assert linked() == "report.html"
    ours = folder.report_path.read_text()
    for forged in (
        "<script>1</script>",
        "<script>1</script>" + ours,
        ours.replace("base-uri", "script-src *; base-uri"),
        ours + "<META http-equiv=refresh content='0;url=x.html'>",
    ):
        folder.report_path.write_text(forged)
        assert linked() is None
    (tmp_path / "ours.html").write_text(ours)
    folder.report_path.unlink()
    folder.report_path.symlink_to(tmp_path / "ours.html")
    assert linked() is None


def test_incomplete_runs_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = evaluation(tmp_path / "a", [episode("t")], **{**PLAN, "tasks": 4})
    b = evaluation(tmp_path / "b", [episode("t"), episode("u")], **PLAN)
    assert aem_eval("compare", str(a.path), str(b.path)) == 0
    assert capsys.readouterr().err == "A is incomplete: 3 planned episodes not played\n"
    assert [run["missing"] for run in head_of(write_comparison(a, b))["runs"]] == [3, 0]


def test_commands_can_be_pasted(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    name = "a b;touch pwned"
    played(Path(name))
    assert f"(aem-eval view {shlex.quote(name)})" in capsys.readouterr().out
    changed(Path(name), model="somewhere:policy")
    assert aem_eval("run", "--resume", name) == 2
    assert f"aem-eval run --resume {shlex.quote(name)} --trust" in capsys.readouterr().err
