"""Training runs from elsewhere: nothing outside of the folder is written or removed, nothing hangs, oddities are named.

Nothing in them names code, so that `--trust` is asked for by none of these.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from helpers import quick, run

from aem_agent.records import RunFolderError
from aem_agent.run_folder import RunFolder
from trainer import checkpoints, cli
from trainer.checkpoints import load
from trainer.errors import CheckpointError, MetricError
from trainer.exports import Exports
from trainer.metrics import MAX_LINE, MetricsLog, read_records


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, and what there is to lose beside it."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(quick("steps=2", "checkpoint.every=1", "warmstart.steps=2", "evaluation.every=2"), folder)
    return folder


@pytest.fixture
def stranger(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, with folders and files of one's own beside it."""
    shutil.copytree(whole, tmp_path / "run", symlinks=True)
    for name in ("Documents", ".ssh", "2-2024-photos", "0-0000001"):
        (tmp_path / "home" / name).mkdir(parents=True)
        (tmp_path / "home" / name / "kept").write_text("kept")
    return tmp_path / "run"


def aem_train(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["aem-train", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def resumed(monkeypatch: pytest.MonkeyPatch, folder: Path) -> int:
    return aem_train(monkeypatch, "resume", str(folder))


def untouched(home: Path) -> bool:
    return sorted(path.name for path in home.rglob("*")) == sorted(
        ["Documents", ".ssh", "2-2024-photos", "0-0000001", *["kept"] * 4]
    )


def linked(path: Path, target: Path) -> None:
    """`path`, whatever it was, as a link."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.symlink_to(target)


def changed(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Other settings, under a hash that fits them."""
    config = RunFolder.open(folder).config
    change(config)
    (folder / "config.json").unlink()
    RunFolder.create(folder, config)


FOLDERS = ("models", "checkpoints", "episodes", "analysis", "tensorboard", "wandb", "init", "warmstart")


@pytest.mark.parametrize("name", FOLDERS)
def test_no_folder_of_a_run_is_a_link(
    stranger: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    linked(stranger / name, stranger.parent / "home")
    assert resumed(monkeypatch, stranger) == 2
    assert f"{name}: it is a link" in capsys.readouterr().err and untouched(stranger.parent / "home")


def test_exports_and_checkpoints_look_themselves(stranger: Path) -> None:
    """Also where the link is made after the run has been opened."""
    home, found = stranger.parent / "home", load(stranger / "checkpoints" / "2-0000002")
    linked(stranger / "models", home)
    linked(stranger / "checkpoints", home)
    with pytest.raises(CheckpointError, match="it is a link"):
        Exports(stranger).keep("2-0000003", lambda folder: None)
    with pytest.raises(CheckpointError, match="it is a link"):
        checkpoints.save(stranger / "checkpoints", found, keep=1)
    assert untouched(home)


def test_only_steps_are_removed(tmp_path: Path) -> None:
    for name in ("2-0000001", "2-0000002", "2-2024-photos", "Documents", "2-1"):
        (tmp_path / name).mkdir()
    (tmp_path / "2-0000000").symlink_to(tmp_path / "Documents")
    checkpoints.remove_all_but(tmp_path, tmp_path / "2-0000002")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2-0000000", "2-0000002", "2-1", "2-2024-photos", "Documents"]


@pytest.mark.parametrize("inner", ["", "weights", "entropy-mask", "entropy-mask/off"])
def test_analyses_write_into_the_run(stranger: Path, monkeypatch: pytest.MonkeyPatch, inner: str) -> None:
    home, place = stranger.parent / "home", stranger / "analysis" / inner
    place.parent.mkdir(parents=True, exist_ok=True)
    linked(place, home)
    stash = stranger / "stash" / ".ssh"  # a checkpoint by the name of what is to be replaced
    shutil.copytree(stranger / "checkpoints" / "2-0000002", stash)
    linked(stranger / "warmstart", stash)
    assert aem_train(monkeypatch, "analyse", "entropy-mask", str(stranger), "--steps", "2") == 2
    if not inner:
        assert aem_train(monkeypatch, "analyse", "alpha", str(stranger)) == 2
    assert untouched(home)


def test_a_checkpoint_is_exported_under_its_step(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = stranger / "checkpoints" / "2-0000002"
    odd = odd.rename(odd.with_name("..name"))
    words = ("analyse", "entropy-mask", str(stranger), "--steps", "2", "--weights", str(odd))
    assert aem_train(monkeypatch, *words) == 0
    assert [path.name for path in (stranger / "analysis" / "weights").iterdir()] == ["2-0000002"]


def test_the_lock_is_made_nowhere_else(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    linked(stranger / ".lock", stranger.parent / "made")
    assert resumed(monkeypatch, stranger) == 2 and not (stranger.parent / "made").exists()


def test_no_file_of_ones_own_gets_into_a_model(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (stranger / "init" / "tokenizer_x").symlink_to(stranger.parent / "home" / ".ssh" / "kept")
    assert resumed(monkeypatch, stranger) == 2
    assert not list(stranger.glob("models/*/tokenizer_x"))


@pytest.mark.parametrize("name", ["models/2-0000002/score.json", "checkpoints/2-0000002/optimiser.pt", "metrics.jsonl"])
def test_pipes_hold_nobody_up(stranger: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (stranger / name).unlink()
    os.mkfifo(stranger / name)
    assert resumed(monkeypatch, stranger) == (0 if "optimiser" in name else 2)  # the checkpoint before that is whole
    if name == "metrics.jsonl":
        assert aem_train(monkeypatch, "report", str(stranger)) == 2


@pytest.mark.parametrize("score", ["NaN", "1e999", "[" * 500, "1" * 400, '"x"', "{}"])
def test_odd_scores(stranger: Path, monkeypatch: pytest.MonkeyPatch, score: str) -> None:
    (stranger / "best" / "score.json").write_text(score)
    assert resumed(monkeypatch, stranger) == 2


GOOD: dict[str, dict[str, Any]] = {
    "rl": {"kind": "rl", "stage": 2, "step": 1, "success": 0.5, "alpha_q50": 1.0, "seconds_x": 1.0},
    "evaluation": {"kind": "evaluation", "stage": 2, "step": 2, "when": "after", "split": "s", "temperature": 0.4,
                   "success": 0.5, "low": 0.1, "high": 0.9, "n": 4},
    "alarm": {"kind": "alarm", "stage": 2, "step": 2, "cause": "c", "words": "w", "advice": "a"},
    "warmstart": {"kind": "warmstart", "stage": 0, "step": 1, "loss": 1.0},
}  # fmt: skip
ODD = ("text", [1], {"a": 1}, 10**400, 1e300, float("nan"))


def odd_records() -> Iterator[dict[str, Any]]:
    """Records with one thing in them that no run writes."""
    for kind, good in GOOD.items():
        for name in good.keys() - {"kind"}:
            text = isinstance(good[name], str)
            yield from ({**good, name: value} for value in ODD if not (text and isinstance(value, str)))
            if kind in ("evaluation", "alarm") or name in ("stage", "step"):
                yield {k: v for k, v in good.items() if k != name}
    good = GOOD["rl"]
    yield from ({**good, "stage": 3}, {**good, "step": -1}, {**good, "x": [[]]}, {**good, "kind": 1}, {})


def test_records_that_no_run_writes_are_damaged_lines(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps(good) + "\n" for good in GOOD.values()))
    assert read_records(file) == list(GOOD.values())
    for record in odd_records():
        file.write_text(json.dumps(record) + "\n" + json.dumps(GOOD["rl"]) + "\n")
        with pytest.raises(RunFolderError, match="line 1 is damaged"):
            read_records(file)
            pytest.fail(f"read as good: {record}")


@pytest.mark.parametrize("line", ["[" * 100_000, "1", "x" * MAX_LINE, "{}"])
def test_odd_lines_are_damaged(tmp_path: Path, line: str) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(f"{line}\n{json.dumps(GOOD['rl'])}\n")
    with pytest.raises(RunFolderError, match="line 1 is damaged"):
        read_records(file)


SETTINGS: tuple[Callable[[dict[str, Any]], Any], ...] = (
    lambda config: config["config"].update(steps="5"),
    lambda config: config["config"].update(env=[]),
    lambda config: config["config"]["checkpoint"].update(keep=0.5),
    lambda config: config["config"]["aem"].update(lam=True),
    lambda config: config.pop("config"),
)


@pytest.mark.parametrize("change", SETTINGS)
def test_odd_settings_are_named(stranger: Path, monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    changed(stranger, change)
    assert resumed(monkeypatch, stranger) == 2
    assert aem_train(monkeypatch, "analyse", "alpha", str(stranger)) == 2
    assert aem_train(monkeypatch, "report", str(stranger)) == 0  # what was recorded is there all the same


def test_a_record_starts_no_crowd(
    stranger: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(stranger, lambda config: config["config"]["scale"].update(processes=100_000))
    monkeypatch.setattr("trainer.launch._start", lambda *_: pytest.fail("it was started"))
    assert resumed(monkeypatch, stranger) == 2
    assert "100000 processes" in capsys.readouterr().err


def _odd_optimiser(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def changed_file(folder: Path) -> None:
        state = torch.load(folder / "optimiser.pt", weights_only=True)
        change(state)
        torch.save(state, folder / "optimiser.pt")

    return changed_file


CHECKPOINTS: dict[str, Callable[[Path], Any]] = {
    "nothing": _odd_optimiser(lambda state: state.clear()),
    "number": _odd_optimiser(lambda state: state.update(policy=3)),
    "text": _odd_optimiser(lambda state: state.update(torch_rng="x")),
    "shape": _odd_optimiser(lambda state: state.update(torch_rng=torch.zeros(2, 2))),
}
STATES = ('{"stage": 7, "step": 2}', '{"stage": 2, "step": -5}', '{"stage": 2, "step": 1e300}', "[]", "{}")


@pytest.mark.parametrize("odd", CHECKPOINTS)
def test_checkpoints_of_another_content(
    stranger: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], odd: str
) -> None:
    CHECKPOINTS[odd](stranger / "checkpoints" / "2-0000002")
    assert resumed(monkeypatch, stranger) == 2
    assert "does not fit this run" in capsys.readouterr().err


@pytest.mark.parametrize("state", STATES)
def test_checkpoints_of_no_step(stranger: Path, state: str) -> None:
    folder = stranger / "checkpoints" / "2-0000002"
    (folder / "state.json").write_text(state)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(folder)


def test_what_a_run_writes_is_read(whole: Path) -> None:
    """None of this stands in the way of a run of one's own."""
    assert {r["kind"] for r in read_records(whole / "metrics.jsonl")} == {"phase", "warmstart", "rl", "evaluation"}


@pytest.mark.parametrize("value", ["0.5", [0.5], {"a": 1}, torch.zeros(2)])
def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, value: Any) -> None:
    """An estimator of one's own may give anything: that is said at its first step, and not when the run is resumed."""
    log = MetricsLog(tmp_path / "metrics.jsonl")
    with pytest.raises(MetricError):
        log.write("rl", 2, 1, {"mine": value})
    assert not log.path.exists() and not log.records
    log.write("rl", 2, 1, {"mine": 1e200, "other": torch.tensor(float("inf")), "third": 10**400, "flag": True})
    assert (
        read_records(log.path)
        == log.records
        == [{"kind": "rl", "stage": 2, "step": 1, "mine": None, "other": None, "third": None, "flag": True}]
    )


def test_commands_can_be_pasted(
    stranger: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    named = stranger.rename(stranger.with_name("a b;touch pwned"))
    changed(named, lambda config: config["config"]["env"].update(id="somewhere:Env-v0"))
    assert resumed(monkeypatch, named) == 2
    assert f"aem-train resume '{named}' --trust" in capsys.readouterr().err
    assert aem_train(monkeypatch, "analyse", "surprisal", str(named)) == 2
    assert f"aem-train analyse surprisal '{named}' --trust" in capsys.readouterr().err
