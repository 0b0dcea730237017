"""Demonstrations: targets are the expert's actions only, noise is shown and not cloned; recorded data clones too."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from threading import Lock
from time import sleep
from typing import Any

import gymnasium as gym
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from helpers import quick, quiet, run

from aem_agent.export import to_sft
from aem_agent.policies import ExpertPolicy
from aem_agent.records import dump_line
from aem_agent.rollout import RolloutManager
from aem_agent.types import Episode
from aem_envs.core import InfrastructureError
from aem_envs.plugins import experts
from aem_envs.toy import ToyEnv, ToyExpert
from trainer import rollouts
from trainer.demonstrations import _last_place, bucketed, play_experts, read_recorded
from trainer.errors import DemonstrationError
from trainer.policy import Policy
from trainer.runs import new_run
from trainer.session import Session
from trainer.warmstart import clone_step, learning_rate


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with new_run(quick("warmstart.games=6"), tmp_path_factory.mktemp("run") / "r", quiet()) as opened:
        yield opened


def recorded(session: Session) -> list[Episode]:
    """Expert games as an evaluation records them."""

    async def play() -> list[Episode]:
        manager = RolloutManager(lambda: rollouts.make_demonstration_env(session.config), ExpertPolicy("expert"))
        groups = await manager.run(session.pools[0][:5])
        return [e for g in groups for e in g.episodes]

    return asyncio.run(play())


def said(session: Session, batch: Any) -> list[str]:
    """The targets' texts, response by response."""
    ids = batch.labels.tolist()
    texts, start = [], 0
    for length in batch.response_lengths.tolist():
        texts.append(session.agent.tokenizer.decode(ids[start : start + length]))
        start += length
    return texts


def test_targets_are_actions_after_the_prompts_the_model_will_see(session: Session) -> None:
    batch = play_experts(session.agent, session.pools, explore=False, seed=1)
    assert batch.n_sequences == batch.n_responses
    assert set(said(session, batch)) <= {
        f"{a}\n" for a in ("go east", "go west", "take key", "unlock door", "open red chest", "open blue chest")
    }
    first = batch.tokens[: int(batch.targets[0])].tolist()
    assert session.agent.tokenizer.decode(first).rstrip().endswith(">")


class Wanderer:
    """Plays the toy's expert, but every second action is a random one that it owns up to."""

    def __init__(self, **_: Any) -> None:
        self.expert = ToyExpert()
        self.acted_at_random = True

    def reset(self, env: Any, observation: str, info: dict[str, Any]) -> None:
        self.expert.reset(env, observation, info)

    def act(self, observation: str, info: dict[str, Any]) -> str:
        self.acted_at_random = not self.acted_at_random
        return "inventory" if self.acted_at_random else self.expert.act(observation, info)


def test_noise_is_shown_but_never_a_target_except_when_exploring(tmp_path: Path) -> None:
    experts.add("aem/Toy-v0/wanderer", Wanderer)
    with new_run(quick("warmstart.expert=wanderer", "warmstart.games=5"), tmp_path / "r", quiet()) as opened:
        calm = play_experts(opened.agent, opened.pools, explore=False, seed=1)
        again = play_experts(opened.agent, opened.pools, explore=False, seed=1)
        wild = play_experts(opened.agent, opened.pools, explore=True, seed=1)
        refused = opened.agent.tokenizer.encode("Nothing happens.")
        assert calm.tokens.equal(again.tokens)
        assert not any(text.startswith("inventory") for text in said(opened, calm))
        assert not {*said(opened, wild)} <= {*said(opened, calm)}
        assert _last_place(calm.tokens.tolist(), refused, 0, len(calm.tokens)) is not None


class SlowToy(ToyEnv):
    """Its steps wait, longer or shorter, so that games played at once end in another order than they began."""

    capabilities = replace(ToyEnv.capabilities, blocking=True)
    open_now = most = 0
    lock = Lock()

    def step(self, action: str) -> Any:
        with SlowToy.lock:
            SlowToy.open_now += 1
            SlowToy.most = max(SlowToy.most, SlowToy.open_now)
        sleep(0.0002 + 0.001 * Random(f"{action}{self._steps}{id(self)}").random())
        try:
            return super().step(action)
        finally:
            with SlowToy.lock:
                SlowToy.open_now -= 1


@pytest.fixture
def slow_toy() -> Iterator[str]:
    gym.register("aem/SlowToy-v0", entry_point=SlowToy)
    experts.add("aem/SlowToy-v0/wanderer", Wanderer)
    yield "aem/SlowToy-v0"
    gym.registry.pop("aem/SlowToy-v0")
    experts._entries.pop("aem/SlowToy-v0/wanderer")


def test_demonstrations_played_at_once_are_those_played_in_turn(slow_toy: str, tmp_path: Path) -> None:
    """The same tokens, targets and order, though which turns were noise is told by each game's own expert."""
    settings = (f"env.id={slow_toy}", "warmstart.expert=wanderer", "warmstart.games=40")
    batches = []
    for n in (1, 8):
        with new_run(quick(*settings, f"warmstart.concurrency={n}"), tmp_path / str(n), quiet()) as opened:
            SlowToy.most = 0
            batches.append(play_experts(opened.agent, opened.pools, explore=False, seed=1))
            assert (SlowToy.most > 1) == (n > 1)
    assert batches[0].tokens.equal(batches[1].tokens) and batches[0].targets.equal(batches[1].targets)


def test_demonstrations_lost_to_broken_infrastructure_are_left_out_and_counted(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A break that passes is played again; one that stays leaves the game out; where all break, the cause is said."""
    reset, broken = ToyEnv.reset, Counter[str]()

    def breaking(times: int, every: int) -> Any:
        def harmed(env: Any, *, seed: Any = None, options: Any = None) -> Any:
            name = str(seed)
            if options and seed % every == 0 and broken[name] < times:
                broken[name] += 1
                raise InfrastructureError("no daemon")
            return reset(env, seed=seed, options=options)

        return harmed

    def played() -> tuple[Any, list[str]]:
        broken.clear()
        notes: list[str] = []
        batch = play_experts(
            session.agent, session.pools, explore=False, seed=1, played=lambda n, note: notes.append(note)
        )
        return batch, notes

    whole, notes = played()
    assert notes == [f"{n} won" for n in range(1, 7)]
    monkeypatch.setattr(ToyEnv, "reset", breaking(1, 1))
    again, notes = played()
    assert again.tokens.equal(whole.tokens) and notes[-1] == "6 won" and len(broken) == 6
    monkeypatch.setattr(ToyEnv, "reset", breaking(9, 2))
    fewer, notes = played()
    lost = len(broken)
    assert 0 < lost < 6 and notes[-1] == f"{6 - lost} won, {lost} errors" and len(fewer.tokens) < len(whole.tokens)
    monkeypatch.setattr(ToyEnv, "reset", breaking(9, 1))
    with pytest.raises(DemonstrationError, match=r"every demonstration ended in an infrastructure error.*no daemon"):
        played()


def test_recorded_episodes_and_sft_exports_give_the_same_samples(session: Session, tmp_path: Path) -> None:
    episodes = recorded(session)
    (tmp_path / "episodes.jsonl").write_bytes(b"".join(map(dump_line, episodes)))
    (tmp_path / "sft.jsonl").write_text("".join(json.dumps(to_sft(e)) + "\n" for e in episodes))
    a = read_recorded(session.agent, tmp_path / "episodes.jsonl")
    b = read_recorded(session.agent, tmp_path / "sft.jsonl")
    assert a.tokens.equal(b.tokens) and a.targets.equal(b.targets)
    assert said(session, a) == [f"{t.action}\n" for e in episodes for t in e.turns]
    odd = json.dumps({**to_sft(episodes[0]), "note": "one\u2028line"}, ensure_ascii=False)
    (tmp_path / "odd.jsonl").write_text(odd, encoding="utf-8")
    assert read_recorded(session.agent, tmp_path / "odd.jsonl").n_responses == len(episodes[0].turns)
    (tmp_path / "bad.jsonl").write_text('{"neither": 1}\n')
    with pytest.raises(DemonstrationError, match="line 1 is neither"):
        read_recorded(session.agent, tmp_path / "bad.jsonl")
    with pytest.raises(DemonstrationError, match="cannot read"):
        read_recorded(session.agent, tmp_path / "nothing.jsonl")
    lost = [json.dumps({**to_sft(e), "won": False}) + "\n" for e in episodes]
    (tmp_path / "lost.jsonl").write_text("".join(lost))
    with pytest.raises(DemonstrationError, match="no won demonstration"):
        read_recorded(session.agent, tmp_path / "lost.jsonl")


def test_whole_episodes_hold_every_response_once(tmp_path: Path) -> None:
    config = quick("model.prompt=plain-full", "warmstart.whole_episodes=true", "warmstart.noise=0", "warmstart.games=5")
    with new_run(config, tmp_path / "r", quiet()) as opened:
        whole = play_experts(opened.agent, opened.pools, explore=False, seed=1)
    assert whole.n_sequences == 5 < whole.n_responses


def test_history_targets_cover_each_action_once(tmp_path: Path) -> None:
    settings = ("warmstart.noise=0", "warmstart.games=5", "model.prompt_options.window=2")
    with new_run(quick(*settings), tmp_path / "a", quiet()) as opened:
        plain = play_experts(opened.agent, opened.pools, explore=False, seed=1)
        texts = sorted(said(opened, plain))
    with new_run(quick(*settings, "warmstart.history_targets=true"), tmp_path / "b", quiet()) as opened:
        packed = play_experts(opened.agent, opened.pools, explore=False, seed=1)
        assert sorted(said(opened, packed)) == texts
    assert packed.n_sequences < plain.n_sequences


def test_last_place_searches_from_the_end() -> None:
    assert _last_place([1, 2, 1, 2, 3], [1, 2], 0, 5) == 2
    assert _last_place([1, 2, 1, 2, 3], [1, 2], 0, 3) == 0
    assert _last_place([1, 2], [3], 0, 2) is None


def test_buckets_cover_all_within_the_budget(session: Session) -> None:
    batch = play_experts(session.agent, session.pools, explore=False, seed=1)
    budget = 200
    chunks = bucketed(batch, budget, torch.Generator().manual_seed(0))
    assert sorted(torch.cat(chunks).tolist()) == list(range(batch.n_sequences))
    lengths = batch.cu_seqlens.diff()
    assert all(int(lengths[c].sum()) <= budget + int(lengths.max()) for c in chunks)
    assert len(chunks) > 1


def test_learning_rate_rises_then_falls_to_a_tenth() -> None:
    rates = [learning_rate(step, 100, 1.0, 0.1) for step in range(100)]
    assert rates[0] == 0.1 and rates[9] == 1.0 and max(rates) == 1.0
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_both_stages_run(tmp_path: Path) -> None:
    settings = ("warmstart.explore_steps=2", "warmstart.explore_games=4", "steps=0")
    run(quick(*settings), tmp_path / "run")
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {"warmstart", "explore", "evaluation"} <= set(kinds)


def test_context_weight_teaches_the_other_tokens_too(session: Session) -> None:
    """The loss shown stays that of the targets; what is predicted better afterwards depends on the weight."""
    batch = play_experts(session.agent, session.pools, explore=False, seed=1)
    model, start = session.model, {name: w.clone() for name, w in session.model.state_dict().items()}
    other = torch.ones(len(batch.tokens), dtype=torch.bool)
    other[batch.targets] = False
    other[batch.cu_seqlens[:-1]] = False
    at = other.nonzero().squeeze(1)
    shown, after = [], []
    for weight in (0.0, 5.0):
        optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
        shown.append(float(clone_step(Policy(model), optimiser, batch, context_weight=weight)))
        with torch.no_grad():
            logits = model.head(model.hidden(batch.tokens, batch.cu_seqlens, at=at - 1))
            after.append(float(torch.nn.functional.cross_entropy(logits, batch.tokens[at])))
        model.load_state_dict(start)
    assert shown[0] == pytest.approx(shown[1])
    assert after[1] < after[0]


def test_the_rate_of_rl_rises_and_falls(tmp_path: Path) -> None:
    settings = ("steps=5", "optimiser.lr=1.0", "optimiser.warmup_steps=2", "optimiser.final_lr=0.2")
    with new_run(quick(*settings), tmp_path / "r", quiet()) as opened:
        rates = []
        for step in range(5):
            opened.set_learning_rate(step)
            rates.append(opened.learner.optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([0.5, 0.8, 0.6, 0.4, 0.2])
