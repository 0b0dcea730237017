"""The paper's rows: their protocol's numbers in a table, and a dry run of each on a machine that has nothing of it."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from trainer import cli
from trainer.algorithms import ALGORITHMS as ALGORITHM_NAMES
from trainer.algorithms import use
from trainer.overrides import override
from trainer.runs import load_recipe, recipe_names

SIZES = {"1-5b": ("Qwen2.5-1.5B-Instruct", 1_543_714_304, 1), "7b": ("Qwen2.5-7B-Instruct", 7_615_616_512, 8)}
ENVIRONMENTS = {
    "alfworld": ("aem/ALFWorld-v0", 50, 256, 2048, "ALFWORLD_DATA"),
    "webshop": ("aem/WebShop-v0", 15, 64, 4096, "WEBSHOP_DATA"),
}
"""Id, turns of an episode, mini-batch, longest prompt, variable that names the data."""
ALGORITHMS = {
    # ratio, clip_low, clip_high, aggregate, kl, dynamic
    "grpo": ("token", 0.2, 0.2, "token_mean", 0.01, False),
    "dapo": ("token", 0.2, 0.28, "token_mean", 0.0, True),
    "gspo": ("sequence", 3e-4, 4e-4, "response_mean", 0.0, False),
}
ROWS = [f"{env}-{algorithm}-{size}" for env in ENVIRONMENTS for algorithm in ALGORITHMS for size in SIZES]
SWE = "swebench-grpo-pp-32b"


def row(name: str) -> tuple[str, str, str]:
    env, algorithm, size = name.split("-", 2)
    return env, algorithm, size


def run_cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, list[str], str]:
    """Exit code, lines of stdout, stderr of `aem-train arguments` in this process, in a folder without models."""
    for variable in ("ALFWORLD_DATA", "WEBSHOP_DATA", "SWEBENCH_DATA", "WORLD_SIZE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "argv", ["aem-train", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out.splitlines(), err


def test_there_is_one_recipe_for_each_row() -> None:
    assert {*ROWS, SWE} <= set(recipe_names())
    own = [name for name in recipe_names() if load_recipe(name).model.path is not None]
    assert sorted(own) == sorted([*ROWS, SWE]), "one system of names, no duplicates"


@pytest.mark.parametrize("name", ROWS)
def test_the_protocol_of_alfworld_and_webshop(name: str) -> None:
    env, method, size = row(name)
    env_id, turns, minibatch, prompt, _ = ENVIRONMENTS[env]
    config = load_recipe(name)
    assert (config.env.id, config.env.kwargs) == (env_id, {"source": "official"})
    rollout, algorithm, evaluation = config.rollout, config.algorithm, config.evaluation
    assert (rollout.tasks, rollout.group_size, config.steps) == (16, 8, 150)
    assert (rollout.temperature, evaluation.temperature, evaluation.every) == (1.0, 0.4, 5)
    assert (rollout.max_steps, evaluation.max_steps, config.warmstart.steps) == (turns, turns, 0)
    assert (rollout.reward_scale, algorithm.invalid_penalty, algorithm.std_floor) == (10.0, 0.1, 0.0)
    assert (config.optimiser.lr, config.optimiser.minibatch_responses, algorithm.epochs) == (1e-6, minibatch, 1)
    found = (
        algorithm.ratio,
        algorithm.clip_low,
        algorithm.clip_high,
        algorithm.aggregate,
        algorithm.kl_coefficient,
        rollout.dynamic,
    )
    assert (algorithm.estimator, found) == ("grpo", ALGORITHMS[method]) and algorithm.kl_estimator == "k3"
    model = config.model
    assert (model.path, model.prompt, model.prompt_options) == (SIZES[size][0], "think-action", {"window": 2})
    assert model.max_new_tokens == 512 and rollout.engine_options["max_model_len"] == prompt + 512
    assert (config.aem.lam, config.aem.scope, config.aem.range_guard, config.aem.enabled) == (1.0, "group", 0.1, True)
    assert evaluation.split != evaluation.interim_split, "the figure after RL is free of selection"
    assert method.upper() in config.description


@pytest.mark.parametrize("env", ENVIRONMENTS)
@pytest.mark.parametrize("method", ALGORITHMS)
def test_the_larger_model_changes_nothing_of_the_protocol(env: str, method: str) -> None:
    small, large = (load_recipe(f"{env}-{method}-{size}") for size in SIZES)
    as_small = replace(
        large,
        description=small.description,
        scale=small.scale,
        model=replace(large.model, path=small.model.path),
        rollout=replace(large.rollout, engine_options=small.rollout.engine_options),
        optimiser=replace(large.optimiser, micro_tokens=small.optimiser.micro_tokens),
    )
    assert as_small == small and large.scale.processes == 8 and large.scale.shard


def test_the_protocol_of_swe_bench() -> None:
    """GRPO++ with AEM, after DeepSWE."""
    config = load_recipe(SWE)
    assert (config.rollout.tasks, config.rollout.group_size, config.steps) == (8, 8, 250)
    assert (config.rollout.temperature, config.rollout.rewards, config.rollout.reward_scale) == (1.0, "success", 1.0)
    assert config.scale.processes == 64 and config.model.path == "Qwen3-32B"
    algorithm = config.algorithm
    assert (algorithm.estimator, algorithm.aggregate, algorithm.compact_filter) == ("rloo", "constant", True)
    assert (algorithm.clip_low, algorithm.clip_high) == (0.2, 0.28)
    assert algorithm.entropy_bonus == algorithm.invalid_penalty == algorithm.kl_coefficient == algorithm.kl_reward == 0
    assert config.rollout.dynamic, "rejection sampling, twofold"
    assert config.rollout.oversample == config.rollout.dynamic_limit == 2
    training = dict(config.env.kwargs)
    assert training["data"] != (training | dict(config.env.eval_kwargs))["data"], "never trained on what is measured"
    assert training["at_limit"] == "fail", "what ran into the limit is truncated, and the filter masks it"
    assert config.evaluation.every == 0, "nor chosen by it"
    assert config.aem.enabled


@pytest.mark.parametrize("name", [*ROWS, SWE])
def test_the_baseline_is_one_switch(name: str) -> None:
    config = load_recipe(name)
    plain = override(config, ["aem.enabled=false"])
    assert plain.aem.modulate_options["lam"] == 0
    assert replace(plain, aem=config.aem) == config


@pytest.mark.parametrize("switch", ["true", "false"])
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_dry_runs_with_aem_on_and_off(
    name: str, switch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run_cli(monkeypatch, capsys, "run", name, "--set", f"aem.enabled={switch}", "--dry-run")
    assert (code, err) == (0, "") and not any(tmp_path.iterdir())
    assert f"aem.enabled = {switch.title()}" in out
    assert "nothing was trained" in out[-1]
    assert any(line.startswith("  at most at once") for line in out)
    own = load_recipe(name).model.path is not None
    assert ("would not run here, for want of:" in out) == own
    assert ("nothing is missing on this machine" in out) != own


@pytest.mark.parametrize("name", ROWS)
def test_a_dry_run_tells_all_that_is_missing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env, _, size = row(name)
    model, parameters, gpus = SIZES[size]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    code, out, _ = run_cli(monkeypatch, capsys, "run", name, "--dry-run")
    text = "\n".join(out)
    assert code == 0 and f"{parameters:,} parameters (as published of {model})" in text
    missing = text.partition("would not run here, for want of:")[2]
    assert f"set {ENVIRONMENTS[env][4]} to" in missing and "--set model.path=DIR" in missing
    if not torch.cuda.is_available():
        assert ("a GPU" if gpus == 1 else f"{gpus} GPUs") in missing


@pytest.mark.parametrize("recipe", [*ROWS, SWE])
def test_every_algorithm_goes_over_every_row(recipe: str) -> None:
    """PPO, RLOO and GiGPO are rows of the paper's tables too."""
    for name in ALGORITHM_NAMES:
        config = use(load_recipe(recipe), name)
        shared = config.scale.processes > 1 and config.scale.rollouts == "each"
        assert not (shared and config.rollout.dynamic), "dynamic sampling chooses among all groups"


@pytest.mark.parametrize("name", ALGORITHM_NAMES)
@pytest.mark.parametrize("size", SIZES)
def test_a_row_with_another_algorithm_dry_runs(
    name: str, size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run_cli(monkeypatch, capsys, "run", f"alfworld-grpo-{size}", "--algorithm", name, "--dry-run")
    assert (code, err) == (0, "") and "nothing was trained" in out[-1]


def test_another_engine_starts_without_the_options_of_the_recipes() -> None:
    recipe = load_recipe("alfworld-grpo-1-5b")
    given = ["rollout.engine_options.dtype=bfloat16", "rollout.engine=torch"]
    assert override(recipe, given).rollout.engine_options == {"dtype": "bfloat16"}
    kept = override(recipe, [given[0], "rollout.engine=vllm"]).rollout.engine_options
    assert kept == {**recipe.rollout.engine_options, "dtype": "bfloat16"}


def test_a_run_is_refused_with_the_whole_list_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    here = ("--set", "device=cpu", "--set", "scale.shard=false", "--set", "scale.precision=float32")
    code, _, err = run_cli(
        monkeypatch, capsys, "run", "alfworld-grpo-1-5b", "--out", "r", *here, "--set", "rollout.engine=torch"
    )
    assert code == 2 and err.count("\n") == 1
    assert "(1) no official ALFWorld data" in err and "(2) 'Qwen2.5-1.5B-Instruct'" in err and "(3)" not in err
    assert not (tmp_path / "r").exists()


def test_several_processes_are_not_started_where_things_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("trainer.launch.launch", lambda *arguments: pytest.fail("started"))
    code, _, err = run_cli(monkeypatch, capsys, "run", "webshop-grpo-7b", "--out", "r")
    assert code == 2 and err.count("\n") == 1
    assert "WEBSHOP_DATA" in err and "model.path=DIR" in err and "scale.processes=8 needs as many GPUs" in err
    assert not (tmp_path / "r").exists()
