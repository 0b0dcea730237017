"""Sharing of the real engine's worker processes, on fakes: who holds which, and what a crash costs."""

import gc

import pytest

from aem_envs import BadStateError
from aem_envs.alfworld import real_play
from aem_envs.alfworld.real import RealEngineError, RealEngineMissingError


class FakeWorker:
    def __init__(self):
        self.alive = True

    def close(self):
        self.alive = False


class FakeGame:
    """Echoes; `crashes` counts how many loads still fail."""

    crashes = 0
    error: type[Exception] = RealEngineError

    def __init__(self, source, *, name, worker):
        if FakeGame.crashes:
            FakeGame.crashes -= 1
            worker.alive = False
            raise FakeGame.error("it broke")
        self.won, self.commands = False, []

    def reset(self):
        self.commands = []
        return "intro"

    def step(self, command):
        self.commands.append(command)
        return command

    def admissible(self):
        return [f"after {self.commands}"]

    def close(self):
        pass


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    monkeypatch.setattr(real_play, "RealWorker", FakeWorker)
    monkeypatch.setattr(real_play, "RealGame", FakeGame)
    monkeypatch.setattr(real_play.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(real_play, "_leases", {})
    monkeypatch.setattr(FakeGame, "crashes", 0)
    monkeypatch.setattr(FakeGame, "error", RealEngineError)


def leases():
    return sorted(real_play._leases.values())


def test_games_share_as_many_workers_as_processors():
    games = [real_play.RealPlay("{}", "game") for _ in range(5)]
    workers = list(real_play._leases)
    assert leases() == [2, 3]
    games[0].close()
    games[0].close()
    assert leases() == [2, 2]
    for game in games:
        game.close()
    assert leases() == [] and not any(worker.alive for worker in workers)


def test_a_forgotten_game_gives_its_lease_back():
    game = real_play.RealPlay("{}", "game")
    assert leases() == [1]
    del game
    gc.collect()
    assert leases() == []


def test_loading_is_tried_once_more_in_a_new_worker():
    FakeGame.crashes = 1
    game = real_play.RealPlay("{}", "game")
    assert game.reset() == "intro" and [worker.alive for worker in real_play._leases] == [True]
    FakeGame.crashes = 2
    with pytest.raises(RealEngineError):
        real_play.RealPlay("{}", "game")
    FakeGame.crashes, FakeGame.error = 1, RealEngineMissingError
    with pytest.raises(RealEngineMissingError):
        real_play.RealPlay("{}", "game")
    assert FakeGame.crashes == 0


def test_snapshots_replay():
    first, second = real_play.RealPlay("{}", "game"), real_play.RealPlay("{}", "game")
    first.reset()
    for command in ("a", "b"):
        first.step(command)
    second.load_state(first.state())
    assert second.admissible() == first.admissible() and second.anchor() == first.anchor()
    for hostile in ({}, {"actions": 1}, {"actions": [1]}, {"actions": [], "more": 1}, {"actions": ["x" * 100_000]}):
        with pytest.raises(BadStateError):
            second.load_state(hostile)
        assert second.admissible() == first.admissible()
