"""`aem-train`: run a recipe, list recipes, resume a run, make a preset. Nothing heavy is loaded before it is needed."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from trainer.config import TrainConfig
    from trainer.session import Session


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main = argparse.ArgumentParser(prog="aem-train", description="Train agents on text environments, with AEM.")
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run a recipe: warm start, RL, evaluation before and after")
    run.add_argument("recipe", help="a shipped recipe (see `aem-train list`), path/to/recipe.py, or module:name")
    run.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting, as in aem.enabled=false"
    )
    run.add_argument("--out", type=Path, help="run folder (default: runs/<recipe>-<time>)")
    run.add_argument("--seed", type=int, help="short for --set seed=N")
    run.add_argument("--dry-run", action="store_true", help="check everything, show the configuration, train nothing")
    commands.add_parser("list", help="list the shipped recipes")
    resume = commands.add_parser("resume", help="continue a run from its newest checkpoint")
    resume.add_argument("dir", type=Path)
    make = commands.add_parser("make-preset", help="write an untrained model folder in transformers format")
    make.add_argument("dir", type=Path)
    make.add_argument("--preset", default="tiny", help="tiny, small, … (default: tiny)")
    make.add_argument("--recipe", default="alfworld-tiny", help="whose environment texts train the tokenizer")
    make.add_argument("--seed", type=int, default=0, help="of the weights (default: 0)")
    return main


def main() -> None:
    """Entry point of the `aem-train` command."""
    arguments = parser().parse_args()
    from aem_envs.cli_common import run_main  # only now: Gymnasium alone takes longer to load than --help may

    run_main(lambda: _main(arguments))


def _main(arguments: argparse.Namespace) -> int:
    if arguments.command == "list":
        return _list()
    if arguments.command == "make-preset":
        return _make_preset(arguments.dir, arguments.preset, arguments.recipe, arguments.seed)
    if arguments.command == "resume":
        from trainer.progress import Reporter
        from trainer.runs import resumed_run

        return _train(resumed_run(arguments.dir, Reporter()), arguments.dir)
    from trainer.overrides import override
    from trainer.runs import default_out, load_recipe

    settings = arguments.set + ([] if arguments.seed is None else [f"seed={arguments.seed}"])
    config = override(load_recipe(arguments.recipe), settings)
    if arguments.dry_run:
        return _dry_run(config)
    from trainer.progress import Reporter
    from trainer.runs import new_run

    out = arguments.out or default_out(arguments.recipe)
    return _train(new_run(config, out, Reporter()), out)


def _train(opening: "AbstractContextManager[Session]", out: Path) -> int:
    """Train in a run folder, and say how to go on if it is interrupted or fails."""
    from trainer.loop import train

    try:
        with opening as session:
            session.reporter.finished(train(session), out)
    except KeyboardInterrupt:
        how = f"continue with `aem-train resume {out}`" if (out / "config.json").exists() else "nothing was written"
        print(f"\ninterrupted; the last checkpoint is kept: {how}", file=sys.stderr)
        return 130
    return 0


def _list() -> int:
    from trainer.runs import load_recipe, recipe_names

    for name in recipe_names():
        print(f"{name:22} {load_recipe(name).description}")
    return 0


def _dry_run(config: "TrainConfig") -> int:
    """Show the configuration; check environment, tasks, prompts, estimator and experts without training."""
    from trainer.dry_run import dry_run

    print("\n".join(dry_run(config)))
    return 0


def _make_preset(folder: Path, name: str, recipe: str, seed: int) -> int:
    from dataclasses import replace

    from aem_agent.records import RunFolderError
    from trainer import rollouts
    from trainer.export import preset_folder
    from trainer.overrides import override
    from trainer.runs import load_recipe

    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise RunFolderError(f"{folder} is not empty: choose another folder")
    if folder.is_dir():
        folder.rmdir()
    config = override(load_recipe(recipe), [f"model.preset={name}", f"seed={seed}"])
    config = replace(config, model=replace(config.model, preset_options={}))
    preset_folder(config, folder, rollouts.task_pools(config))
    print(
        f"wrote {folder}: load it with transformers' AutoModelForCausalLM, or train it with --set model.path={folder}"
    )
    return 0


if __name__ == "__main__":
    main()
