"""What `aem-eval` does with a run there is: resume after every kind of stop, score, compare, view, export."""

import json
import os
import resource
import signal
from pathlib import Path

import pytest
from eval_runs import TROUBLED_ID, aem_eval, episodes, start, wait_for_episodes

pytestmark = pytest.mark.usefixtures("workplace")


def test_errors_are_reported_apart_and_resume_redoes_only_them(capsys: pytest.CaptureFixture[str]) -> None:
    Path("flag").touch()
    settings = ["--env", "broken=flag", "--retries", "0"]
    assert aem_eval("run", TROUBLED_ID, "-m", "random", "--out", "a", *settings) == 3
    captured = capsys.readouterr()
    summary = json.loads(Path("a/summary.json").read_text())
    broken = summary["errors"]
    assert 0 < broken < 29 and summary["n"] == 29 - broken and summary["error_types"] == {"InfrastructureError": broken}
    assert summary["successes"] == round(summary["success_rate"] * summary["n"])
    assert f"{broken} × InfrastructureError: the page went away" in captured.out
    assert "in no rate above" in captured.out and "--resume a" in captured.err
    before = Path("a/episodes.jsonl").read_bytes()
    assert aem_eval("score", "a") == 3

    Path("flag").unlink()
    assert aem_eval("run", "--resume", "a", "--trust", "--retries", "0") == 0
    after = Path("a/episodes.jsonl").read_bytes()
    assert after.startswith(before) and after.count(b"\n") == 29 + broken
    assert json.loads(Path("a/summary.json").read_text())["errors"] == 0
    assert aem_eval("run", TROUBLED_ID, "-m", "random", "--out", "b", *settings) == 0
    assert episodes("a") == episodes("b")


def test_resume_refuses_another_configuration_and_says_what_differs(capsys: pytest.CaptureFixture[str]) -> None:
    assert aem_eval("run", "aem/Toy-v0", "-m", "random", "-n", "3", "--out", "a") == 0
    assert aem_eval("run", "aem/Toy-v0", "-m", "random", "-n", "4", "--seed", "5", "--resume", "a") == 2
    error = capsys.readouterr().err
    assert "seed: 0 → 5" in error and "tasks: 3 → 4" in error
    assert aem_eval("run", "aem/Toy-v0", "-m", "random", "-n", "3", "--out", "a") == 2
    assert "--resume a" in capsys.readouterr().err
    data = json.loads(Path("a/config.json").read_text())
    Path("a/config.json").write_text(json.dumps({**data, "schema_version": 99}))
    assert aem_eval("run", "--resume", "a") == 2
    assert "schema version 99" in capsys.readouterr().err


def test_resume_refuses_tasks_whose_data_have_changed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("edition").write_text("first")
    assert aem_eval("run", TROUBLED_ID, "-m", "random", "-n", "3", "--out", "a") == 0
    lines = Path("a/episodes.jsonl").read_text().splitlines(keepends=True)
    Path("a/episodes.jsonl").write_text("".join(lines[:2]))
    Path("edition").write_text("second")
    assert aem_eval("run", "--resume", "a", "--trust") == 2
    assert "data of 2 tasks played in a have changed" in capsys.readouterr().err
    assert Path("a/episodes.jsonl").read_text() == "".join(lines[:2])
    Path("edition").write_text("first")
    capsys.readouterr()
    assert aem_eval("run", "--resume", "a", "--trust", "--dry-run") == 0
    assert "3: 2 done, 1 to play (nothing was played now)" in capsys.readouterr().out
    assert aem_eval("run", "--resume", "a", "--trust", "--seed", "5", "--dry-run") == 2, "refused as it will be"
    assert aem_eval("run", "--resume", "a", "--trust") == 0
    assert len(episodes("a")) == 3
    capsys.readouterr()
    assert aem_eval("run", "--resume", "a", "--trust", "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["episodes"], plan["done"], plan["remaining"]) == (3, 3, 0)


def test_resume_after_kill_9_loses_nothing() -> None:
    arguments = ["run", TROUBLED_ID, "-m", "random", "-n", "12", "-c", "3", "--env", "delay=0.005"]
    process = start(*arguments, "--out", "a")
    wait_for_episodes(Path("a"), 3)
    process.kill()
    process.communicate()
    kept = Path("a/episodes.jsonl").read_bytes()
    kept = kept[: kept.rindex(b"\n") + 1]
    assert kept.count(b"\n") < 12
    Path("a/episodes.jsonl").write_bytes(kept + b'{"env_id":"test/Trou')  # as torn as it can be
    assert aem_eval("run", "--resume", "a", "--trust") == 0
    content = Path("a/episodes.jsonl").read_bytes()
    assert content.startswith(kept) and content.count(b"\n") == 12
    assert aem_eval(*arguments, "--out", "b") == 0
    assert episodes("a") == episodes("b")


def test_ctrl_c_sums_up_what_is_done_and_says_how_to_go_on() -> None:
    process = start("run", TROUBLED_ID, "-m", "random", "-n", "12", "-c", "2", "--env", "delay=0.01", "--out", "a")
    wait_for_episodes(Path("a"), 2)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130 and "--resume a --trust" in error and "Traceback" not in error
    assert error.count("Ctrl-C again stops at once") == 1
    summary = json.loads(Path("a/summary.json").read_text())
    assert summary["n"] >= 2 and summary["missing"] == 12 - summary["n"] > 0 and summary["errors"] == 0
    assert "not complete" in Path("a/report.html").read_text()
    assert aem_eval("run", "--resume", "a", "--trust") == 0


def test_a_full_disk_is_a_clear_error_and_resumable() -> None:
    def small_files() -> None:  # stands in for a full disk: writes fail beyond 12 kB
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))

    process = start("run", "aem/Toy-v0", "-m", "random", "--out", "a", preexec_fn=small_files)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2 and "free some space and resume" in error and "Traceback" not in error
    assert 0 < len(episodes("a")) < 29
    assert aem_eval("run", "--resume", "a") == 0
    assert len(episodes("a")) == 29


def test_compare(capsys: pytest.CaptureFixture[str]) -> None:
    for out, more in (("a", ["-m", "random"]), ("b", ["-m", "expert"]), ("c", ["-m", "expert", "--split", "train"])):
        assert aem_eval("run", "aem/Toy-v0", "-n", "20", "--out", out, *more) == 0
    capsys.readouterr()
    assert aem_eval("compare", "a", "b", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tasks"] == 20 and found["differences"]["success"]["interval"][0] > 0
    assert aem_eval("compare", "a", "b") == 0
    assert "success, unlock" in capsys.readouterr().out
    assert aem_eval("compare", "a", "c") == 2
    assert 'split: "test" → "train"' in capsys.readouterr().err
    assert aem_eval("compare", "a", "c", "--force") == 2
    assert "no completed task in common" in capsys.readouterr().err


def test_runs_compare_whose_settings_mean_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    run = ("run", "aem/Toy-v0", "-m", "random", "-n", "3")
    assert aem_eval(*run, "--out", "a") == 0
    assert aem_eval(*run, "--env", "max_steps=50", "--out", "b") == 0, "the toy's default"
    assert aem_eval(*run, "--max-steps", "7", "--out", "c") == 0
    assert aem_eval(*run, "--env", "max_steps=7", "--out", "d") == 0
    assert aem_eval("compare", "a", "b") == 0 and aem_eval("compare", "c", "d") == 0
    assert aem_eval("compare", "a", "c") == 2
    assert "env.max_steps: null → 7" in capsys.readouterr().err


def test_view_shows_hostile_texts_harmlessly(capsys: pytest.CaptureFixture[str]) -> None:
    Path("script.json").write_text(json.dumps(["\x1b[2J<script>alert(1)</script>", "[red]go east[/red]"]))
    assert aem_eval("run", "aem/Toy-v0", "-m", "scripted:script.json", "-n", "2", "--max-steps", "3", "--out", "a") == 0
    capsys.readouterr()
    assert aem_eval("view", "a", "--episode", "1") == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "␛[2J<script>alert(1)</script>" in shown and "[red]go east[/red]" in shown
    assert aem_eval("view", "a", "--episode", "3") == 2
    assert "episodes 1 to 2" in capsys.readouterr().err
    assert aem_eval("view", "a", "--no-browser") == 0
    assert capsys.readouterr().out.strip() == "a/view.html"
    report = Path("a/report.html").read_text()
    assert "<script" not in report and "\x1b" not in report and "alert(1)" in report


def test_export(capsys: pytest.CaptureFixture[str]) -> None:
    assert aem_eval("run", "aem/Toy-v0", "-m", "expert", "-n", "3", "--out", "a") == 0
    assert aem_eval("export", "a", "--out", "data.jsonl") == 0
    lines = [json.loads(line) for line in Path("data.jsonl").read_text().splitlines()]
    assert len(lines) == 3 and all(line["won"] and line["steps"][-1]["action"].startswith("open") for line in lines)
    assert aem_eval("export", "a", "--format", "csv", "--out", "data.csv") == 2
    capsys.readouterr()
    before = Path("a/episodes.jsonl").read_bytes()
    for out, advice in (("a/episodes.jsonl", "choose another --out"), ("data.jsonl", "--force")):
        assert aem_eval("export", "a", "--out", out) == 2
        assert advice in capsys.readouterr().err
    assert Path("a/episodes.jsonl").read_bytes() == before
    assert aem_eval("export", "a", "--out", "data.jsonl", "--force", "--format", "messages") == 0
    assert "messages" in Path("data.jsonl").read_text()
    assert capsys.readouterr().out.startswith("3 episodes, ")


def test_export_into_a_pipe_leaves_stdout_to_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert aem_eval("run", "aem/Toy-v0", "-m", "expert", "-n", "1", "--out", "a") == 0
    capsys.readouterr()
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert aem_eval("export", "a", "--out", "pipe") == 0
    assert os.read(reader, 1 << 16).count(b"\n") == 1 and Path("pipe").is_fifo()
    os.close(reader)
    captured = capsys.readouterr()
    assert not captured.out and "1 episode, " in captured.err


def test_damaged_records_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert aem_eval("run", "aem/Toy-v0", "-m", "random", "-n", "2", "--out", "a") == 0
    lines = Path("a/episodes.jsonl").read_bytes().splitlines(keepends=True)
    Path("a/episodes.jsonl").write_bytes(b"{}\n" + lines[1])
    assert aem_eval("score", "a") == 2
    assert "line 1" in capsys.readouterr().err


def test_a_pool_that_cannot_be_had_leaves_no_run_behind(capsys: pytest.CaptureFixture[str]) -> None:
    run = ("run", "aem/Toy-v0", "-m", "random", "-n", "3", "--out", "a")
    assert aem_eval(*run, "--step-limit", "5") == 2
    assert 'use the pool "processes"' in capsys.readouterr().err and not Path("a").exists()
    assert aem_eval(*run, "--pool", "nowhere") == 2
    assert "known: inline, processes, ray" in capsys.readouterr().err and not Path("a").exists()
    assert aem_eval(*run, "--workers", "0") == 2 and "--workers must be above 0" in capsys.readouterr().err
    assert not Path("a").exists()


def test_the_same_episodes_in_worker_processes() -> None:
    for out, more in (("a", ()), ("b", ("--pool", "processes", "--workers", "2", "--step-limit", "60"))):
        assert aem_eval("run", "aem/Toy-v0", "-m", "expert", "-n", "9", "-r", "2", "--out", out, *more) == 0
    assert episodes("a") == episodes("b") and len(episodes("a")) == 18
