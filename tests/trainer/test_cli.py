"""`aem-train`: help at once, typed mistakes, presets, refusals."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from helpers import quick, resume, run

from aem_agent.records import RunFolderError
from trainer import cli
from trainer.runs import recipe_names, resumed_run


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
    with resumed_run(path, None), pytest.raises(RunFolderError, match="in use"), resumed_run(path, None):  # type: ignore[arg-type]
        pass
