"""`aem-train`: help at once, typed mistakes, presets, refusals."""

import atexit
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from helpers import quick, quiet, resume, run

from aem_agent.records import RunFolderError
from trainer import cli
from trainer.runs import recipe_names, resumed_run
from trainer.world import ProcessError


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of `aem-train arguments` in this process."""
    monkeypatch.setattr(sys, "argv", ["aem-train", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from trainer.cli import parser; parser().format_help(); print('torch' in sys.modules)"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False"
    assert time.perf_counter() - started < 5  # bench measures the 0.3 s; a busy machine must not fail this


def test_list_names_every_recipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(monkeypatch, capsys, "list")
    assert code == 0 and all(name in out for name in recipe_names())


def test_dry_run_shows_settings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("run", "toy", "--set", "aem.lam=0.25", "--seed", "7", "--dry-run")
    code, out, _ = command(monkeypatch, capsys, *arguments)
    assert code == 0
    assert "aem.lam = 0.25" in out and "seed = 7" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "toy", "--set", "aem.lamda=1"), "did you mean 'aem.lam'"),
        (("run", "tyo"), "unknown recipe"),
        (("run", "toy", "--set", "env.kwargs.rooms=3", "--dry-run"), "env.kwargs"),
        (("resume", "nowhere"), "holds no run"),
        (("make-preset", "{tmp}/new", "--preset", "huge"), "unknown preset"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    arguments: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filled = [a.replace("{tmp}", str(tmp_path)) for a in arguments]
    code, _, err = command(monkeypatch, capsys, *filled)
    assert code == 2
    assert words in err and err.count("\n") == 1


def test_make_preset_is_a_transformers_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "made"
    code, out, _ = command(monkeypatch, capsys, "make-preset", str(folder), "--recipe", "toy")
    assert code == 0 and str(folder) in out
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # the weights are as readable as the rest
    assert AutoModelForCausalLM.from_pretrained(folder).num_parameters() > 1000
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.unk_token_id not in tokenizer("go east\nopen red chest\nunlock door\n")["input_ids"]
    code, _, err = command(monkeypatch, capsys, "make-preset", str(folder), "--recipe", "toy")
    assert code == 2 and "not empty" in err


def test_run_folders_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    run(quick("steps=0", "warmstart.steps=0"), path)
    with pytest.raises(RunFolderError, match="not empty"):
        run(quick(), path)
    text = (path / "config.json").read_text()
    (path / "config.json").write_text(text.replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(RunFolderError, match="schema version 99"):
        resume(path)
    (path / "config.json").write_text(text.replace('"lam": 1.0', '"lam": 2.0'))
    with pytest.raises(RunFolderError, match="changed or damaged"):
        resume(path)
    (path / "config.json").write_text(text)
    with resumed_run(path, quiet()), pytest.raises(RunFolderError, match="in use"), resumed_run(path, quiet()):
        pass


def test_ending_several_processes_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the second Ctrl-C the launcher ends them, and they say nothing."""

    def ended(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr("trainer.launch.launch", ended)
    code, _, err = command(
        monkeypatch, capsys, "run", "toy", "--set", "scale.processes=2", "--out", str(tmp_path / "r")
    )
    assert code == 130 and err == "\ninterrupted; the last checkpoint is kept: nothing was written\n"


@pytest.mark.parametrize(
    ("rank", "error", "code", "said"),
    [
        (0, RunFolderError("mine"), 2, "error: mine\n"),
        (1, RunFolderError("mine"), 2, "error: process 1: mine\n"),
        (0, ProcessError("process 1: its"), 2, "error: process 1: its\n"),
        (1, ProcessError("process 0: its"), 2, ""),
        (1, KeyboardInterrupt(), 130, ""),
    ],
)
def test_one_of_several_processes_that_fails_leaves_without_the_threads_that_wait(
    rank: int,
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    variables = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    left: list[int] = []

    def leave(code: int) -> None:
        left.append(code)
        raise SystemExit(code)

    @contextmanager
    def failing() -> Iterator[Any]:
        raise error
        yield

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(atexit, "_run_exitfuncs", lambda: None)
    with pytest.raises(SystemExit):
        cli._train(failing(), Path("run"))
    assert left == [code]
    assert capsys.readouterr().err == said
