"""Every shipped recipe loads and passes a dry run; recipes come by name, by file, or as module:name."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from helpers import QUICK, quick, quiet, run

from aem_agent.types import AgentError
from aem_envs.plugins import UnknownPluginError
from aem_envs.toy import ToyEnv
from envs_data.swebench.trainable import EvaluationSetError
from trainer.config import ConfigError, EnvConfig, ScaleConfig
from trainer.dry_run import check_recipe, dry_run
from trainer.errors import RecipeError
from trainer.export import preset_folder
from trainer.overrides import from_json, override, to_json
from trainer.rollouts import task_pools
from trainer.runs import load_recipe, new_run, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipe_would_run_where_all_it_needs_is_there(name: str, tmp_path: Path) -> None:
    """A small model, generated data and this machine's devices stand in for what is the user's own."""
    config = load_recipe(name)
    assert config.description
    assert from_json(to_json(config)) == config
    if config.model.path is not None:
        folder = preset_folder(quick(), tmp_path / "model", task_pools(quick()))
        free = {k: v for k, v in config.env.kwargs.items() if k not in ("source", "data", "sandbox")}
        config = replace(config, env=replace(config.env, kwargs=free, eval_kwargs={}), scale=ScaleConfig())
        rollout = replace(config.rollout, engine="torch", engine_options={})
        config = override(
            replace(config, rollout=rollout), ["device=cpu", f"model.path={folder}", "model.max_new_tokens=512"]
        )
    lines = dry_run(config)
    assert "nothing is missing on this machine" in lines
    assert "nothing was trained" in lines[-1]
    check_recipe(config)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alfworld-small", "alfworld-weak-start", "webshop-tiny"])
def test_longer_recipe_turns_when_cut_short(tmp_path: Path, name: str) -> None:
    """Every stage, every variant and both exports; `warmstart.max_steps` stays, so that experts win."""
    kept = [s for s in QUICK if not s.startswith("warmstart.tokens_per_step")]
    config = override(load_recipe(name), [*kept, "steps=2", "evaluation.every=1", "evaluation.interim_tasks=2"])
    if config.warmstart.explore_steps:
        config = override(config, ["warmstart.explore_steps=2", "warmstart.explore_games=8"])
    summary = run(config, tmp_path / "run")
    assert summary["steps"] == 2
    for stage in ("warmstart", "best"):
        assert (tmp_path / "run" / stage / "aem.json").is_file()


def test_recipes_by_file_and_by_module(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from trainer.config import TrainConfig\nrecipe = TrainConfig(steps=3)\n")
    assert load_recipe(str(file)).steps == 3
    assert load_recipe("trainer.recipes.toy:recipe") == load_recipe("toy")
    file.write_text("recipe = 3\n")
    with pytest.raises(RecipeError, match="does not define"):
        load_recipe(str(file))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("TrainConfig(stepz=3)", "line 2.*stepz.*did you mean 'steps'"),
        ("TrainConfig(aem=AemConfig(lamda=3))", "lamda.*did you mean 'lam'"),
        ("TrainConfig(aem=AemConfig(scope='room'))", "aem.scope='room'"),
        ("TrainConfig(model=ModelConfig(path=3))", "model.path=3"),
        ("TrainConfig(optimiser=OptimiserConfig(betas=(0.9,)))", "optimiser.betas"),
        ("TrainConfig(seed=True)", "seed=True"),
        ("TrainConfig(steps=-1)", "steps must not be negative"),
        ("TrainConfig(", "line 2.*SyntaxError"),
        ("1 / 0", "line 2.*division by zero"),
    ],
)
def test_mistakes_in_a_recipe_file_are_named(tmp_path: Path, code: str, words: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"from trainer.config import *\nrecipe = {code}\n")
    with pytest.raises((RecipeError, ConfigError), match=words):
        load_recipe(str(file))


@pytest.mark.parametrize("name", ["alfworld-tyni", "nowhere.py", "nowhere:recipe", "trainer.recipes.toy:nothing"])
def test_what_is_no_recipe_is_named(name: str) -> None:
    with pytest.raises(RecipeError, match=name.partition(":")[0]):
        load_recipe(name)


@pytest.mark.parametrize(
    "setting",
    [
        "env.kwargs.rooms=9",
        "env.id=aem/Nothing-v0",
        "model.prompt=nothing",
        "model.prompt_options.size=1",
        "model.preset=huge",
        "model.preset_options.width=1",
        "algorithm.estimator=nothing",
        "warmstart.expert=nothing",
        "evaluation.split=nothing",
        "evaluation.interim_split=nothing",
        "algorithm.options.size=1",
        "algorithm.dual_clip=0.5",
        "rollout.engine=nothing",
        "rollout.pool=nothing",
        "model.max_new_tokens=1024",
        "device=gpu",
        "device=cudax",
        "device=meta",
    ],
)
def test_dry_run_finds_what_a_run_would_stumble_over(setting: str) -> None:
    from aem_envs.cli_common import is_known_error

    for look in (dry_run, check_recipe):
        with pytest.raises(Exception) as caught:
            look(override(load_recipe("toy"), [setting]))
        assert is_known_error(caught.value)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model.prompt_options.windw=3", "did you mean 'model.prompt_options.window'"),
        ("model.prompt_options.bogus=3", "known here: window, "),
        ("model.preset_options.layres=2", "did you mean 'model.preset_options.layers'"),
        ("warmstart.expert_options.noize=1", "did you mean 'warmstart.expert_options.noise'"),
        ("warmstart.expert_options.bogus=1", "known here: noise, seed"),
        ("env.kwargs.max_step=1", "did you mean 'env.kwargs.max_steps'"),
        ("env.kwargs.bogus=1", "known here: split, max_steps, render_mode"),
        ("env.eval_kwargs.bogus=1", "known here: split, max_steps, render_mode"),
        ("rollout.engine_options.cache_byts=1", "did you mean 'rollout.engine_options.cache_bytes'"),
        ("algorithm.options.std_flor=1", "did you mean 'algorithm.options.std_floor'"),
    ],
)
def test_misspelt_options_are_named_with_what_there_is(setting: str, words: str) -> None:
    key = setting.partition("=")[0]
    with pytest.raises(ConfigError, match=f"^unknown key '{key}'.*{words}"):
        check_recipe(override(load_recipe("toy"), [setting]))


@pytest.mark.parametrize("engine", ["openai", "staged_engine:Chat"])
def test_text_engines_are_refused_for_training_with_the_reason(engine: str, tmp_path: Path) -> None:
    config = quick(f"rollout.engine={engine}")
    with pytest.raises(RecipeError, match=r"text engine .*token ids .*log-probs.*nothing to train on.*torch"):
        dry_run(config)
    with pytest.raises(RecipeError, match="text engine"), new_run(config, tmp_path / "r", quiet()):
        pass
    assert not (tmp_path / "r").exists()
    with pytest.raises(RecipeError, match="no LocalEngine"):
        dry_run(quick("rollout.engine=staged_engine:Nothing"))


@pytest.mark.parametrize("limit", ["step_limit", "episode_limit", "memory_limit"])
def test_limits_that_cannot_be_kept_in_this_process_are_refused_at_once(limit: str) -> None:
    with pytest.raises(ConfigError, match=rf"rollout\.{limit}.*rollout\.pool=processes"):
        dry_run(quick(f"rollout.{limit}=3"))
    assert dry_run(quick(f"rollout.{limit}=3", "rollout.pool=processes"))


def test_a_misspelt_option_of_a_variant_is_named() -> None:
    config = replace(load_recipe("toy"), env=EnvConfig("aem/Toy-v0", variants=({"max_steps": 4}, {"max_step": 4})))
    with pytest.raises(ConfigError, match=r"env\.variants\.max_step'"):
        check_recipe(config)


def test_a_response_must_leave_room_for_a_prompt(tmp_path: Path) -> None:
    """Whether the model is a preset or a folder."""
    setting = ["model.max_new_tokens=100000"]
    with pytest.raises(ConfigError, match=r"model\.max_new_tokens=100000.*1024 tokens"):
        check_recipe(override(load_recipe("toy"), setting))
    folder = preset_folder(quick(), tmp_path / "model", task_pools(quick()))
    with pytest.raises(ConfigError, match=r"model\.max_new_tokens=100000.*1024 tokens"):
        check_recipe(override(load_recipe("toy"), [*setting, f"model.path={folder}"]))


@pytest.mark.parametrize(
    "setting", ["layers=0", "hidden_size=-8", "heads=2.5", "kv_heads=3", "head_dim=3", "init_std=0", "tokenizer=none"]
)
def test_impossible_sizes_of_a_preset_are_named(setting: str) -> None:
    with pytest.raises((RecipeError, ConfigError), match=f"model.preset_options.{setting.partition('=')[0]}"):
        dry_run(override(load_recipe("toy"), [f"model.preset_options.{setting}"]))


def test_a_preset_needs_the_expert_even_without_a_warm_start() -> None:
    """Its tokenizer is trained on the expert's games."""
    with pytest.raises(UnknownPluginError, match="nothing"):
        dry_run(override(load_recipe("toy"), ["warmstart.steps=0", "warmstart.expert=nothing"]))


def test_a_model_without_tokenizer_is_noticed_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    config = quick(f"model.path={tmp_path / 'model'}")
    with pytest.raises(AgentError, match="tokenizer"), new_run(config, tmp_path / "r", quiet()):
        pass
    assert not (tmp_path / "r").exists()


def test_a_run_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    for setting in ("algorithm.options.interest=1", "env.kwargs.interest=1"):
        with pytest.raises(ConfigError, match="interest"), new_run(quick(setting), tmp_path / "r", quiet()):
            pass
        assert not (tmp_path / "r").exists()


def test_what_must_not_be_trained_on_is_refused_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: ToyEnv, split: str) -> None:
        raise EvaluationSetError(f"{split} is for evaluation")

    monkeypatch.setattr(ToyEnv, "require_trainable", refuse)
    with pytest.raises(EvaluationSetError, match="train is for evaluation"):
        dry_run(quick())
