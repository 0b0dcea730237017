"""Every shipped recipe loads and passes a dry run; recipes come by name, by file, or as module:name."""

from pathlib import Path

import pytest

from trainer.dry_run import dry_run
from trainer.errors import RecipeError
from trainer.overrides import from_json, override, to_json
from trainer.runs import load_recipe, recipe_names


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
    ],
)
def test_dry_run_finds_what_a_run_would_stumble_over(setting: str) -> None:
    from aem_envs.cli_common import is_known_error

    with pytest.raises(Exception) as caught:
        dry_run(override(load_recipe("toy"), [setting]))
    assert is_known_error(caught.value)
