"""What cannot be right about an engine or a pool is said before anything is written."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import staged_engine
from helpers import figures, quick, quiet, run
from test_batch import episode, group, turn

from aem_agent.types import AgentError, RolloutGroup
from aem_envs.cli_common import CliError
from trainer.batch import BatchError, build
from trainer.dry_run import dry_run
from trainer.errors import ParityError, RecipeError
from trainer.runs import new_run
from trainer.sampled import check_sampled

OPTION = "rollout.engine_options."


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ((f"{OPTION}dtype=banana",), r"dtype='banana': choose float32, bfloat16"),
        ((f"{OPTION}dtype=nn",), r"dtype='nn': choose float32"),
        ((f"{OPTION}dtype=int64",), r"dtype='int64': choose float32"),
        ((f"{OPTION}max_batch=x",), r"max_batch='x' is not a whole number"),
        ((f"{OPTION}max_batch=0",), r"max_batch must be at least 1, got 0"),
        ((f"{OPTION}cache_bytes=x",), r"cache_bytes='x' is not a whole number"),
        ((f"{OPTION}deterministic=banana",), r"deterministic='banana' is not true or false"),
        ((f"{OPTION}device=banana",), r"device 'banana' cannot be used here"),
        ((f"{OPTION}folder=here",), r"set model\.path=DIR"),
        ((f"{OPTION}banana=1",), r"known here: dtype, deterministic, cache_bytes$"),
        (("rollout.engine=fake",), r"no model, so nothing could be learnt.*\(torch, vllm, vllm-server\)"),
        (("rollout.engine=fake", f"{OPTION}banana=1"), r"no model, so nothing could be learnt"),
        (("rollout.engine=openai",), r"nothing to train on; name a token engine \(torch, vllm, vllm-server\)"),
        (("rollout.engine=staged_engine:Plain", f"{OPTION}dtype=nn"), r"dtype='nn': choose float32"),
        (("rollout.engine=staged_engine:Plain", f"{OPTION}sleep=true"), r"unknown key .*sleep"),
        (("rollout.engine=staged_engine:Strict", f"{OPTION}sleep=true"), r"cannot sleep"),
        (
            ("rollout.engine=staged_engine:Sleeper", f"{OPTION}sleep=true", "rollout.staleness=1"),
            r"rollouts go on then: set one of them only",
        ),
        (("rollout.engine=staged_engine:Sleeper", f"{OPTION}sleep=1"), r"sleep=1 is not true or false"),
        (
            ("rollout.engine=staged_engine:Choosy", f"{OPTION}banana=1"),
            r"folder None, device cpu, max_batch \d+, options \{'banana': 1\}",
        ),
        (("rollout.pool=os:path",), r"rollout\.pool=os:path is no pool .*name one of inline, processes, ray"),
        (("rollout.pool=staged_engine:Plain",), r"is no pool"),
    ],
)
def test_mistakes_are_typed_and_leave_nothing_behind(settings: tuple[str, ...], words: str, tmp_path: Path) -> None:
    config = quick(*settings)
    with pytest.raises((CliError, AgentError), match=words):
        dry_run(config)
    with pytest.raises((CliError, AgentError), match=words):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_workers_are_of_pools_that_have_some() -> None:
    with pytest.raises(CliError, match=r"rollout\.workers=2, but rollout\.pool=inline has none"):
        quick("rollout.workers=2")


@pytest.mark.parametrize("name", ["torch", "staged_engine:Plain"])
def test_options_that_are_right_pass(name: str) -> None:
    right = ("dtype=bfloat16", "max_batch=3", "deterministic=false", "cache_bytes=0", "device=cpu")
    dry_run(quick(f"rollout.engine={name}", *(OPTION + setting for setting in right)))


def test_what_only_loading_shows_is_typed_too(tmp_path: Path) -> None:
    config = quick("rollout.engine=staged_engine:Strict", f"{OPTION}banana=1")
    with (
        pytest.raises(RecipeError, match=r"does not load with rollout\.engine_options: .*banana"),
        new_run(config, tmp_path / "run", quiet()),
    ):
        pass


def test_an_engine_must_say_how_long_a_sequence_may_be(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"Unlimited\.max_positions is None"):
        run(quick("rollout.engine=staged_engine:Unlimited"), tmp_path / "run")


def test_an_engine_with_another_vocabulary_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match=r"token id 1000000, outside the vocabulary of \d+"):
        run(quick("rollout.engine=staged_engine:OtherVocabulary", "warmstart.steps=0"), tmp_path / "run")


@pytest.mark.parametrize("settings", [(), ("rollout.partial=true",)])
def test_log_probs_that_go_wrong_after_the_first_step_are_found_out(settings: tuple[str, ...], tmp_path: Path) -> None:
    """With staleness no batch is ever of the present weights: the probe after each push is what sees it."""
    engine = ("rollout.engine=staged_engine:WrongLater", "rollout.staleness=1", "warmstart.steps=0")
    with pytest.raises(ParityError, match=r"differ by 0\.5"):
        run(quick(*engine, *settings), tmp_path / "run")
    assert not figures(tmp_path / "run", ("rl",)), "found at the push of the first step"


def test_an_engine_sleeps_while_a_step_trains(tmp_path: Path) -> None:
    staged_engine.Sleeper.done.clear()
    settings = ("rollout.engine=staged_engine:Sleeper", "steps=2", "warmstart.steps=0")
    run(quick(*settings, f"{OPTION}sleep=true"), tmp_path / "sleeps")
    slept = ["sleep 1", "wake", "load"]
    assert staged_engine.Sleeper.done == ["load", *slept, *slept]
    staged_engine.Sleeper.done.clear()
    run(quick(*settings), tmp_path / "does-not")
    assert staged_engine.Sleeper.done == ["load"] * 3


def test_log_probs_that_are_no_numbers_are_not_blamed_on_the_learning_rate(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match=r"the engine re.* log-?probs that are not finite"):
        run(quick("rollout.engine=staged_engine:Overflowing", "warmstart.steps=0"), tmp_path / "run")


def said(**fields: Any) -> list[RolloutGroup]:
    """A group of one episode that says one response."""
    plain = turn([3], [1, 2])
    return [group(episode(replace(plain, response=replace(plain.response, **fields))))]


def test_what_an_engine_records_must_be_possible() -> None:
    batch, _ = build(said())
    check_sampled(batch, 4)
    with pytest.raises(BatchError, match=r"token id 3, outside the vocabulary of 3"):
        check_sampled(batch, 3)
    with pytest.raises(BatchError, match=r"the engine recorded log-probs that are not finite"):
        check_sampled(build(said(logprobs=(-1.0, float("-inf"))))[0], 4)
    with pytest.raises(BatchError, match=r"the engine recorded entropies that are not finite"):
        check_sampled(build(said(entropies=(1.0, float("nan"))))[0], 4)
    with pytest.raises(BatchError, match=r"must fill `policy_versions`"):
        build(said(policy_versions=()))
    assert torch.equal(batch.versions, torch.tensor([0]))  # type: ignore[arg-type]
