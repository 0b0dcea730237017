"""A training folder from elsewhere: what its record names is imported only when the user says so."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from helpers import quick, quiet, run
from test_cli import command

from aem_agent.run_folder import config_hash
from aem_agent.trust import UntrustedRecordError, acting
from trainer.overrides import to_json
from trainer.runs import load_recipe, recipe_names, resumed_run

MODULE = """
from pathlib import Path
import aem_envs
from aem_envs.toy import ToyEnv
from trainer.losses import policy_loss as loss

Path(__file__).with_name("imported").touch()
aem_envs.register("test/Elsewhere-v0", "aem_envs.toy:ToyEnv")
aem_envs.experts.add("test/Elsewhere-v0/expert", aem_envs.experts.get("aem/Toy-v0/expert"))
"""


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """There once the module `elsewhere` has been imported."""
    (tmp_path / "elsewhere.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "imported"
    forget(tmp_path / "imported")


def forget(imported: Path) -> None:
    """As in a new process."""
    sys.modules.pop("elsewhere", None)
    gym.registry.pop("test/Elsewhere-v0", None)
    imported.unlink(missing_ok=True)


def rewrite(folder: Path, key: str, value: object) -> None:
    """What anyone can do to a record: its hash holds no secret."""
    file = folder / "config.json"
    data = json.loads(file.read_text())
    *groups, name = key.split(".")
    group = data["config"]["config"]
    for part in groups:
        group = group[part]
    group[name] = value
    file.write_text(json.dumps(data | {"config_hash": config_hash(data["config"])}))


def test_a_run_of_ones_own_code_resumes_with_one_word(
    imported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run"
    config = quick(
        "env.id=elsewhere:test/Elsewhere-v0", "algorithm.loss=elsewhere:loss", "warmstart.steps=0", "steps=1"
    )
    run(config, path)
    assert imported.exists()
    forget(imported)
    code, _, error = command(monkeypatch, capsys, "resume", str(path))
    assert code == 2 and f"aem-train resume {path} --trust" in error
    assert "config.env.id=elsewhere:test/Elsewhere-v0; config.algorithm.loss=elsewhere:loss" in error
    with monkeypatch.context() as patched:
        patched.setattr("trainer.launch.launch", lambda *_: pytest.fail("processes are started first"))
        code, _, _ = command(monkeypatch, capsys, "resume", str(path), "--processes", "2")
    assert code == 2
    for analysis in ("surprisal", "entropy-mask"):
        code, _, error = command(monkeypatch, capsys, "analyse", analysis, str(path))
        assert code == 2 and f"aem-train analyse {analysis} {path} --trust" in error
    assert not imported.exists()
    code, _, _ = command(monkeypatch, capsys, "resume", str(path), "--trust")
    assert code == 0 and imported.exists()


def test_nothing_else_that_a_record_names_is_used_on_resuming(imported: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    run(quick("warmstart.steps=0", "steps=0"), path)
    for key, value in (
        ("model.prompt", "elsewhere:Prompt"),
        ("model.parser", "elsewhere:Parser"),
        ("rollout.engine", "elsewhere:Engine"),
        ("rollout.pool", "elsewhere:Pool"),
        ("algorithm.estimator", "elsewhere:estimator"),
        ("warmstart.expert", "elsewhere:Expert"),
        ("rollout.engine_options", {"python": "/tmp/python"}),
        ("rollout.engine_options", {"arguments": ["--trust-remote-code"]}),
        ("env.kwargs", {"sandbox": "local", "allow_unsafe": True}),
        ("env.variants", [{"engine": "textworld"}]),
        ("metrics.wandb", "someone/project"),
    ):
        before = (path / "config.json").read_text()
        rewrite(path, key, value)
        with pytest.raises(UntrustedRecordError, match=key), resumed_run(path, quiet()):
            pass
        (path / "config.json").write_text(before)
    assert not imported.exists()


def test_looking_at_a_run_imports_nothing(
    imported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from aem_agent.cli import main

    path = tmp_path / "run"
    run(quick("warmstart.steps=0", "steps=2", "metrics.episodes_every=1"), path)
    for key in ("env.id", "model.prompt", "algorithm.loss", "algorithm.estimator", "rollout.engine"):
        rewrite(path, key, "elsewhere:loss")
    for arguments in (("report", str(path)), ("analyse", "alpha", str(path))):
        code, _, error = command(monkeypatch, capsys, *arguments)
        assert code == 0, error
    for words in (["view", str(path)], ["view", str(path), str(path), "--out", str(tmp_path / "both.html")]):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--no-browser"])
        assert not ended.value.code, capsys.readouterr().err
    assert "elsewhere" not in sys.modules and not imported.exists()


@pytest.mark.parametrize("name", recipe_names())
def test_runs_of_shipped_recipes_resume_without_a_word(name: str) -> None:
    assert acting({"kind": "aem-train", "config": to_json(load_recipe(name))}) == []
