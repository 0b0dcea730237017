"""Engines and policies of a third party, as `aem-eval run --engine module:Class` and `-m module:Class` take them."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aem_agent.cli import main
from aem_agent.records import read_episodes

OWN = '''
from pathlib import Path

from aem_agent.engines.fake import FakeTokenEngine
from aem_agent.types import Response


class East(FakeTokenEngine):
    """A token engine that always says the line in its model folder."""

    @classmethod
    def load(cls, folder, *, device, max_batch):
        assert (device, max_batch) == ("tpu", 3)
        return cls(reply=lambda request: (Path(folder) / "line").read_text())


class Echo:
    """A text engine."""

    def __init__(self, model, *, base_url, concurrency):
        self.said = f"<think>{model} at {base_url}</think><action>go east</action>"

    async def chat(self, messages, sampling, seed):
        return Response(self.said)

    async def aclose(self): ...


class Half:
    """Neither kind of engine, and no policy."""

    @classmethod
    def load(cls, folder, **options):
        return cls()
'''


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working directory with the module `own` and a model folder of a kind that only its engine knows."""
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "line").write_text("go east\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("own", None)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["run", "aem/Toy-v0", "-n", "2", "--max-steps", "3", *arguments])
    return int(stop.value.code or 0)


def said(folder: str) -> set[tuple[str, str]]:
    return {(t.response.text, t.action) for e in read_episodes(Path(folder) / "episodes.jsonl") for t in e.turns}


def test_a_token_engine_of_ones_own_plays_a_model_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-m", "model", "--engine", "own:East", "--device", "tpu", "-c", "3", "--out", "a") == 0
    assert said("a") == {("go east\n", "go east")}
    assert json.loads(Path("a/config.json").read_text())["config"]["engine"] == "own:East"
    assert run("-m", "model", "--engine", "fake", "--out", "b") == 0, "a registered one, by name"
    assert run("--resume", "a", "-m", "model", "--engine", "fake") == 2
    assert 'engine: "own:East" → "fake"' in capsys.readouterr().err


def test_a_text_engine_of_ones_own_plays_an_endpoint() -> None:
    assert run("-m", "openai:any", "--engine", "own:Echo", "--base-url", "there", "--out", "a") == 0
    assert said("a") == {("<think>any at there</think><action>go east</action>", "go east")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "model", "--engine", "tensorflow"], "unknown token_engines 'tensorflow'; known: fake, torch"),
        (["-m", "model", "--engine", "own:West"], "cannot load token_engines 'own:West'"),
        (["-m", "model", "--engine", "own:Half"], "'own:Half' is no LocalEngine (aem_agent.types): it made a Half"),
        (["-m", "model", "--engine", "own:Echo"], "'own:Echo' is no LocalEngine"),
        (["-m", "openai:any", "--engine", "own:Path.cwd"], "is no TextEngine (aem_agent.types): "),
        (["-m", "openai:any", "--engine", "own:__doc__"], "is no TextEngine (aem_agent.types): "),
        (["-m", "random", "--engine", "torch"], "'random' runs on no engine"),
        (
            ["-m", "own:Half"],
            "'own:Half' is no policy (aem_agent.types.Policy): it lacks name, trainable, start, aclose",
        ),
        (["-m", "aem_agent.engines.fake:FakeTokenEngine"], "is no policy (aem_agent.types.Policy): it lacks name,"),
    ],
)
def test_what_is_none_is_refused_before_a_folder_is_made(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not Path("runs").exists()
