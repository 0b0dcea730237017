"""Every shipped recipe loads and passes a dry run; recipes come by name, by file, or as module:name."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from helpers import quick, quiet

from aem_agent.types import AgentError
from aem_envs.plugins import UnknownPluginError
from trainer.config import ConfigError
from trainer.dry_run import dry_run
from trainer.errors import RecipeError
from trainer.overrides import from_json, override, to_json
from trainer.runs import load_recipe, new_run, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipe_dry_runs(name: str) -> None:
    config = load_recipe(name)
    assert config.description
    assert from_json(to_json(config)) == config
    assert "nothing was trained" in dry_run(config)[-1]


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
        "model.path=nowhere",
        "algorithm.estimator=nothing",
        "warmstart.expert=nothing",
        "warmstart.data=nowhere.jsonl",
        "evaluation.split=nothing",
        "evaluation.interim_split=nothing",
        "algorithm.options.size=1",
        "algorithm.dual_clip=0.5",
    ],
)
def test_dry_run_finds_what_a_run_would_stumble_over(setting: str) -> None:
    from aem_envs.cli_common import is_known_error

    with pytest.raises(Exception) as caught:
        dry_run(override(load_recipe("toy"), [setting]))
    assert is_known_error(caught.value)


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
    with (
        pytest.raises(RecipeError, match="interest"),
        new_run(quick("algorithm.options.interest=1"), tmp_path / "r", quiet()),
    ):
        pass
    assert not (tmp_path / "r").exists()
