"""Episodes that a training run records: what is written of each turn, when, and that training does not depend on it."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import assert_same, quick, resume, run

from aem_agent.records import episode_at, read_episodes
from aem_agent.run_folder import RunFolder
from aem_agent.types import Episode, Response, RolloutGroup, TaskRef, Turn
from aem_agent.viewer import records_in_order, write_view
from aem_agent.viewer.chunks import ChunkWriter
from aem_agent.viewer.index import read_run
from trainer.aem import Modulation
from trainer.batch import build
from trainer.config import ConfigError
from trainer.recordings import annotated, turn_figures


def turn(*tokens: int) -> Turn:
    return Turn("see", Response("say", tokens, (-0.5,) * len(tokens), (1.0,) * len(tokens)), "do", (1, 2))


def episode(repeat: int, *turns: Turn, error: str | None = None) -> Episode:
    return Episode("e", "t", "", "train", repeat, 0, turns=turns, terminated=error is None, error=error)


def group(*episodes: Episode, errored: tuple[Episode, ...] = ()) -> RolloutGroup:
    return RolloutGroup(TaskRef("e", "t", "train"), episodes, errored)


def test_figures_of_a_turn() -> None:
    """Two responses of 2 and 1 tokens: H̄ = (1 + 2)/2 and 4; per token A = (1, 3), (−1) is 2 and −1 per response."""
    batch, _ = build([group(episode(0, turn(5, 6), turn(7)))])
    alpha, entropies = torch.tensor([1.5, 0.5]), torch.tensor([1.0, 2.0, 4.0])
    found = turn_figures(
        batch, entropies, torch.tensor([2.0, -1.0]), Modulation(torch.tensor([3.0, -0.5]), alpha, {}), alpha=True
    )
    assert {name: values.tolist() for name, values in found.items()} == {
        "entropy": [1.5, 4.0],
        "advantage": [2.0, -1.0],
        "applied": [3.0, -0.5],
        "alpha": [1.5, 0.5],
    }
    per_token = Modulation(torch.tensor([1.5, 4.5, -0.5]), alpha, {})
    found = turn_figures(batch, entropies, torch.tensor([1.0, 3.0, -1.0]), per_token, alpha=False)
    assert found["advantage"].tolist() == [2.0, -1.0] and found["applied"].tolist() == [3.0, -0.5]
    assert "alpha" not in found


def test_each_response_gets_its_own_figures() -> None:
    """Responses are counted over completed episodes; those that broke, or said nothing, are written as they are."""
    broken, silent = episode(9, turn(1), error="EngineError: down"), episode(8)
    groups = [
        group(episode(0, turn(1)), silent, episode(1, turn(2), turn(3)), errored=(broken,)),
        group(episode(2, turn(4))),
    ]
    figures = {"entropy": [0.25, 0.5, 0.75, 1.0]}
    written = list(annotated(groups, figures, limit=2))
    said = {e.repeat: [t.info.get("training", {}).get("entropy") for t in e.turns] for e in written}
    assert said == {0: [0.25], 1: [0.5, 0.75], 8: [], 9: [None], 2: [1.0]}
    assert [e.repeat for e in annotated(groups, figures, limit=1)] == [0, 1, 8, 9]
    assert replace(written[0], turns=groups[0].episodes[0].turns) == groups[0].episodes[0], "nothing else is changed"


def test_settings_that_cannot_work() -> None:
    with pytest.raises(ConfigError, match="episodes_every must not be negative"):
        quick("metrics.episodes_every=-1")
    with pytest.raises(ConfigError, match="episodes_groups must be positive"):
        quick("metrics.episodes_groups=0")


@pytest.mark.slow
def test_a_run_records_and_learns_the_same(tmp_path: Path) -> None:
    run(quick(), tmp_path / "plain")
    run(quick("metrics.episodes_every=2", "metrics.episodes_groups=1"), tmp_path / "seen")
    assert not (tmp_path / "plain" / "episodes").exists()
    assert_same(tmp_path / "plain", tmp_path / "seen")
    folder = tmp_path / "seen" / "episodes"
    assert sorted(p.name for p in folder.iterdir()) == ["step-000002.jsonl", "step-000004.jsonl"]
    for path in folder.iterdir():
        recorded = list(read_episodes(path))
        assert len(recorded) == 2 and len({e.task_id for e in recorded}) == 1, "one group of two"
        for said in (t for e in recorded for t in e.turns):
            figures, entropies = said.info["training"], said.response.entropies
            assert entropies is not None
            assert figures["entropy"] == pytest.approx(sum(entropies) / len(entropies), abs=1e-5)
            assert figures["applied"] == pytest.approx(figures["alpha"] * figures["advantage"], abs=1e-4)
            assert figures["alpha"] > 0


@pytest.mark.slow
def test_the_viewer_opens_a_training_run(tmp_path: Path) -> None:
    path = tmp_path / "run"
    run(quick("metrics.episodes_every=2", "aem.enabled=false"), path)
    folder = RunFolder.open(path)
    with ChunkWriter() as chunks:
        index = read_run(folder, chunks)
    assert index.labels == ["before RL", "RL step 2", "RL step 4", "after RL"]
    assert {index.labels[row.source] for row in index.rows} == set(index.labels)
    recorded = [row for row in index.rows if "RL step" in index.labels[row.source]]
    assert len(recorded) == 8 and all(row.entropy is not None for row in recorded)
    episodes = [episode_at(*place) for place in records_in_order(folder)]
    assert [e.task_id for e in episodes] == [row.episode.task_id for row in index.rows]
    assert "alpha" not in episodes[4].turns[0].info["training"], "AEM is off: there is no α"
    assert write_view(folder).stat().st_size > 10_000


@pytest.mark.slow
def test_steps_done_again_replace_what_they_wrote(tmp_path: Path) -> None:
    path = tmp_path / "run"
    run(quick("metrics.episodes_every=4", "checkpoint.every=2"), path)
    file = path / "episodes" / "step-000004.jsonl"
    before = said(file)
    shutil.rmtree(path / "checkpoints" / "2-0000004")
    file.write_bytes(b"stale\n")
    resume(path)
    assert said(file) == before


def said(file: Path) -> list[tuple[str, object]]:
    """Turns of a recording, without the weights' version, which a resumed process counts anew."""
    return [(t.response.text, t.info["training"]) for e in read_episodes(file) for t in e.turns]
