"""Benchmarks look for official games in the same places."""

import tarfile
from importlib import import_module
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


def test_all_benchmarks_look_for_official_games_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    step, engine = import_module("env_step"), import_module("alfworld_engine")
    official_games = step.official_games
    assert official_games is engine.official_games
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    monkeypatch.setenv("AEM_TEST_DATA", str(tmp_path))
    with official_games(None) as folder:
        assert folder is None
    (tmp_path / "alfworld").mkdir()
    (tmp_path / "game").write_text("a game")
    with tarfile.open(tmp_path / "alfworld" / "json_2.1.1_valid_seen_sample.tar.xz", "w:xz") as tar:
        tar.add(tmp_path / "game", "game")
    with official_games(None) as folder:
        assert (folder / "game").read_text() == "a game"
    assert not folder.exists()
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    with official_games(None) as folder:
        assert folder == tmp_path
    with official_games(Path("named")) as folder:
        assert folder == Path("named")
