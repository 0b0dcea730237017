"""The viewer's page, read without a browser: what it holds, in which order, and what can get into it."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from math import inf, nan
from pathlib import Path

import pytest
from eval_runs import aem_eval
from viewer_runs import NASTY, contents_of, episode, evaluation, head_of, nasty_episode

import aem_agent.viewer
from aem_agent.comparison import compare
from aem_agent.records import RecordWriteError, RunFolderError, dump_line, episode_at
from aem_agent.run_folder import RunFolder
from aem_agent.types import Response, Turn
from aem_agent.viewer import ViewerError, records_in_order, write_comparison, write_view
from aem_agent.viewer.chunks import ChunkWriter
from aem_agent.viewer.index import read_run
from aem_agent.viewer.turns import goal, text, thoughts, turn_data

SCRIPTS = sorted((Path(aem_agent.viewer.__file__).parent / "js").glob("*.js"))


def test_rows_are_numbered_as_everywhere_and_lead_to_their_contents(tmp_path: Path) -> None:
    played = [episode(f"t{i % 7}", i // 7, turns=1 + i % 5, won=i % 2 == 0) for i in range(21)]
    folder = evaluation(tmp_path / "run", reversed(played))
    page = write_view(folder)
    assert page == folder.path / "view.html"
    run = head_of(page)["runs"][0]
    rows, names, chunks = run["columns"], run["names"], contents_of(page)
    ordered = [episode_at(*record) for record in records_in_order(folder)]
    assert [names["task"][i] for i in rows["task"]] == [e.task_id for e in ordered] == sorted(e.task_id for e in played)
    assert rows["attempt"] == [e.repeat + 1 for e in ordered] and rows["turns"] == [len(e.turns) for e in ordered]
    assert rows["outcome"] == ["won" if e.won else "lost" for e in ordered]
    for place, at in enumerate(zip(rows["chunk"], rows["position"], strict=True)):
        inside = chunks[at[0]][at[1]]
        assert [t["observation"] for t in inside["turns"]] == [t.observation for t in ordered[place].turns]
    assert run["rates"]["won"] == 11 and run["rates"]["n"] == 21 and run["report"] is None


def test_an_attempt_that_was_played_anew_is_shown_once(tmp_path: Path) -> None:
    broken = episode("b", error="EngineError: down", terminated=False)
    page = write_view(evaluation(tmp_path / "run", [episode("a"), broken, episode("b", won=True, turns=3)]))
    rows = head_of(page)["runs"][0]["columns"]
    assert rows["outcome"] == ["lost", "won"] and rows["turns"] == [2, 3]
    assert len(contents_of(page)[rows["chunk"][1]][rows["position"][1]]["turns"]) == 3


def test_ends_are_kept_apart(tmp_path: Path) -> None:
    cut = {"terminated": False, "truncated": True, "truncation_reason": "max_steps"}
    ends = [episode("a", won=True), episode("b"), episode("c", **cut), episode("d", error="EngineError: down: now")]
    run = head_of(write_view(evaluation(tmp_path / "run", ends)))["runs"][0]
    assert run["columns"]["outcome"] == ["won", "lost", "truncated", "error"]
    assert [run["names"]["reason"][i] for i in run["columns"]["reason"]] == ["", "", "max_steps", "EngineError"]
    assert run["rates"]["n"] == 3, "an error is no failure"


def test_contents_do_not_stay_in_memory(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "run", [episode(f"t{i}", turns=4) for i in range(30)])
    with ChunkWriter(size=2000) as chunks:
        index = read_run(folder, chunks)
        assert chunks.count > 5
    assert all(turn.observation == "" and not turn.response.text for e in index.episodes() for turn in e.turns)
    assert {len(e.turns) for e in index.episodes()} == {4}


@pytest.mark.parametrize(
    ("said", "action", "thought"),
    [
        ("<think> a b </think><action>go</action>", "go", "a b"),
        ("<think>never ends", "<think>never ends", "never ends"),
        ("I look first.\n```bash\nls -l\n```", "ls -l", "I look first."),
        ("so <action>go</action> done", "go", "so"),
        ("go", "go", ""),
        ("nothing of it", "go", ""),
        ("", "", ""),
    ],
)
def test_thoughts_are_what_stands_before_the_action(said: str, action: str, thought: str) -> None:
    assert thoughts(Turn("", Response(said), action)) == thought


@pytest.mark.parametrize(
    ("seen", "line"),
    [
        ("A room.\n\nYour task is to: put a  cup\nin it.", "put a cup"),
        ("WebShop [SEP] Instruction: [SEP] find me a hat [SEP] Search", "find me a hat"),
        ("Solve this.\n\nIssue:\n`f` is wrong\n\nmore", "`f` is wrong"),
        ("nothing is asked", ""),
    ],
)
def test_what_is_to_be_done_is_found_in_the_first_observation(seen: str, line: str) -> None:
    assert goal(replace(episode("t"), turns=(Turn(seen, Response(""), ""),))) == line


def test_figures_of_a_turn_are_numbers_or_absent() -> None:
    engine = Turn("", Response("", (1, 2), None, (0.5, 1.0)), "")
    assert turn_data(engine)["entropy"] == 0.75 and "alpha" not in turn_data(engine)
    given = {"training": {"entropy": 0.1234567, "alpha": 1.5, "advantage": 0, "applied": -0.25, "other": 1}}
    data = turn_data(Turn("", Response("", (1,), None, (9.0,)), "", info=given))
    assert {k: data.get(k) for k in ("entropy", "alpha", "advantage", "applied", "other")} == {
        "entropy": 0.123457, "alpha": 1.5, "advantage": 0.0, "applied": -0.25, "other": None,
    }  # fmt: skip
    for odd in (nan, inf, "1", True, None, [], {}):
        assert "alpha" not in turn_data(Turn("", Response(""), "", info={"training": {"alpha": odd}}))
    assert "entropy" not in turn_data(Turn("", Response("", (1,), None, (nan,)), "", info={"training": 3}))


def test_long_texts_are_cut_and_none_has_a_control_character() -> None:
    assert text("x" * 200_010) == "x" * 100_000 + "… 100010 more characters"
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff]", text(NASTY))


def test_nothing_foreign_is_in_the_file_but_as_base64(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "a<script>@@HEAD@@\u202e", [nasty_episode()], model=NASTY)
    page = write_view(folder).read_bytes()
    assert b"hacked" not in page and b"\x1b" not in page and "\u202e".encode() not in page
    title = re.search(rb"<title>(.*)</title>", page)
    assert title is not None and title[1].decode() == "a&lt;script&gt;@@HEAD@@\\x202e · episodes"
    assert page.count(b"<script") == 3 and page.count(b"</script>") == 3  # the list, the script, one chunk


def test_the_policy_names_the_pages_own_script_and_style_by_hash(tmp_path: Path) -> None:
    page = write_view(evaluation(tmp_path / "run", [episode("a")])).read_text("utf-8")
    policy = re.search('Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None and policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy[1] and "require-trusted-types-for 'script'; trusted-types 'none'" in policy[1]
    for tag in ("script", "style"):
        inside = re.search(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert inside is not None
        digest = base64.b64encode(hashlib.sha256(inside[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_make_no_markup_and_no_request(script: Path) -> None:
    code = script.read_text("utf-8")
    code = re.sub(r"//.*", "", code)
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "fetch(",
                 "XMLHttpRequest", "WebSocket", "import(", "localStorage", "cookie"):  # fmt: skip
        assert word not in code
    assert len(script.read_text("utf-8").splitlines()) <= 300


def test_every_script_is_in_the_page() -> None:
    from aem_agent.viewer.page import SCRIPTS as USED

    assert sorted(USED) == [path.stem for path in SCRIPTS]


def test_two_runs_are_paired_and_differ_as_compare_says(tmp_path: Path) -> None:
    a = evaluation(tmp_path / "a", [episode("t0"), episode("t1", won=True), episode("t1", 1), episode("t3")])
    b = evaluation(
        tmp_path / "b", [episode("t1", 1, won=True, turns=5), episode("t0", won=True), episode("t2"), episode("t1")]
    )
    page = write_comparison(a, b)
    assert page == b.path / "compare.html"
    head = head_of(page)
    assert head["comparison"]["pairs"] == [[0, 0], [1, 1], [2, 2]], "t0, t1, t1 again; t2 and t3 have no partner"
    found, summary = compare(a.episodes(), b.episodes()), head["comparison"]["summary"]
    assert summary["tasks"] == 2 and summary["only_a"] == 1 and summary["only_b"] == 1
    success = summary["metrics"]["success"]
    assert success["difference"] == found.differences["success"].mean == 0.5
    assert success["interval"] == pytest.approx(list(found.differences["success"].interval), rel=1e-5)
    assert len(contents_of(page, 0)[0]) == len(contents_of(page, 1)[0]) == 4
    assert head["comparison"]["different"] == []


def test_runs_that_cannot_be_compared(tmp_path: Path) -> None:
    a = evaluation(tmp_path / "a", [episode("t0")])
    with pytest.raises(ViewerError, match="no episode of a task in common"):
        write_comparison(a, evaluation(tmp_path / "b", [episode("t1")]))
    with pytest.raises(ViewerError, match="two of a kind"):
        write_comparison(a, training(tmp_path / "d", {"samples-after.jsonl": ["x"]}))
    other = evaluation(tmp_path / "e", [episode("t0")], max_steps=5)
    assert head_of(write_comparison(a, other))["comparison"]["different"] == ["env.max_steps: null → 5"]


def training(path: Path, files: dict[str, list[str]]) -> RunFolder:
    config = {"kind": "aem-train", "config": {"env": {"id": "aem/Toy-v0"}, "model": {"preset": "tiny"}}}
    folder = RunFolder.create(path, config)
    for name, tasks in files.items():
        file = path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"".join(dump_line(episode(task)) for task in tasks))
    return folder


def test_episodes_of_a_training_run_are_in_order_of_time(tmp_path: Path) -> None:
    files = {
        "samples-before.jsonl": ["b", "a"],
        "samples-after.jsonl": ["a"],
        "episodes/step-000020.jsonl": ["x"],
        "episodes/step-000003.jsonl": ["y"],
        "episodes/step-1000000.jsonl": ["z"],
        "episodes/notes.jsonl": ["no"],
    }
    folder = training(tmp_path / "run", files)
    run = head_of(write_view(folder))["runs"][0]
    assert run["names"]["source"] == ["before RL", "RL step 3", "RL step 20", "RL step 1000000", "after RL"]
    assert [run["names"]["task"][i] for i in run["columns"]["task"]] == ["a", "b", "y", "x", "z", "a"]
    assert run["training"] and run["rates"] is None
    page = write_comparison(folder, training(tmp_path / "other", {"episodes/step-000020.jsonl": ["x", "a"]}))
    assert head_of(page)["comparison"] == {"pairs": [[3, 1]], "summary": None, "different": []}, "x at step 20 only"
    with pytest.raises(RunFolderError, match=r"metrics\.episodes_every=N"):
        write_view(training(tmp_path / "empty", {}))


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "run", [episode("a")])
    with pytest.raises(RecordWriteError, match="name another place with --out"):
        write_view(folder, tmp_path / "absent" / "view.html")
    before = write_view(folder).read_bytes()
    assert {p.name for p in folder.path.iterdir()} == {"config.json", "episodes.jsonl", "view.html"}
    assert write_view(folder).read_bytes() == before, "the same records give the same page"


@pytest.mark.usefixtures("workplace")
def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    for name, model in (("a", "expert"), ("b\x1b[2J", "random")):
        assert aem_eval("run", "aem/Toy-v0", "-m", model, "-n", "3", "--out", name, "--json") == 0
    capsys.readouterr()
    assert aem_eval("view", "a", "--no-browser") == 0
    assert capsys.readouterr().out == "a/view.html\n"
    assert head_of(Path("a/view.html"))["runs"][0]["report"] == "report.html"
    assert aem_eval("view", "a", "b\x1b[2J", "--no-browser") == 0
    assert capsys.readouterr().out == "b␛[2J/compare.html\n", "no escape reaches the terminal"
    assert aem_eval("view", "a", "--no-browser", "--out", "elsewhere.html") == 0
    assert head_of(Path("elsewhere.html"))["runs"][0]["report"] is None, "the report is not beside it"
    assert aem_eval("view", "a", "b\x1b[2J", "--episode", "1") == 2
    assert "an episode of one run" in capsys.readouterr().err
    assert aem_eval("view", "a", "--episode", "4") == 2


@pytest.mark.usefixtures("workplace")
def test_an_episode_of_a_training_run_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = training(tmp_path / "run", {"samples-before.jsonl": ["b"], "episodes/step-000001.jsonl": ["a"]})
    assert aem_eval("view", str(folder.path), "--episode", "2") == 0
    assert "episode 2 of 2  a" in capsys.readouterr().out
    assert json.loads((folder.path / "config.json").read_text())["config"]["kind"] == "aem-train"
