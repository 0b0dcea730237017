"""`aem-train`: run a recipe, list recipes, resume or analyse a run, make a preset. Heavy modules are loaded late."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from aem_agent.files import quoted
from aem_suite.version import ShowVersion
from trainer.analysis.commands import add_analyse, analyse

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from trainer.config import TrainConfig
    from trainer.session import Session


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main = argparse.ArgumentParser(prog="aem-train", description="Train agents on text environments, with AEM.")
    main.add_argument("--version", action=ShowVersion)
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run a recipe: warm start, RL, evaluation before and after")
    run.add_argument("recipe", help="a shipped recipe (see `aem-train list`), path/to/recipe.py, or module:name")
    run.add_argument("--algorithm", metavar="NAME", help="a published algorithm's settings (see `aem-train list`)")
    run.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting, as in aem.enabled=false"
    )
    run.add_argument("--out", type=Path, help="run folder (default: runs/<recipe>-<time>)")
    run.add_argument("--seed", type=int, help="short for --set seed=N")
    run.add_argument("--dry-run", action="store_true", help="check everything, show the configuration, train nothing")
    commands.add_parser("list", help="list the shipped recipes and the algorithms")
    add_analyse(commands)
    resume = commands.add_parser("resume", help="continue a run from its newest checkpoint")
    resume.add_argument("dir", type=Path)
    resume.add_argument(
        "--trust",
        action="store_true",
        help="import and start what the folder names (module:attribute and the like): only for folders of your own, or "
        "that you know",
    )
    resume.add_argument("--processes", type=int, help="instead of as many as began it (scale.processes)")
    report = commands.add_parser("report", help="write the report of a run, also while it goes on")
    report.add_argument("dir", type=Path)
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
    if arguments.command == "report":
        return _report(arguments.dir)
    if arguments.command == "analyse":
        return analyse(arguments)
    if arguments.command == "resume":
        return _resume(arguments.dir, arguments.processes, arguments.trust)
    from trainer.runs import default_out

    settings = arguments.set + ([] if arguments.seed is None else [f"seed={arguments.seed}"])
    config = _configured(arguments.recipe, arguments.algorithm, settings)
    if arguments.dry_run:
        return _dry_run(config)
    from trainer.progress import Reporter
    from trainer.runs import new_run
    from trainer.started import to_launch

    out = arguments.out or default_out(arguments.recipe)
    if to_launch(config.scale.processes):
        from trainer.dry_run import check_recipe

        check_recipe(config, launching=True)  # said once, not by every process
        rest = [word for setting in settings for word in ("--set", setting)]
        rest += [] if arguments.algorithm is None else ["--algorithm", arguments.algorithm]
        return _launch(config.scale.processes, ["run", arguments.recipe, "--out", str(out), *rest], out)
    return _train(new_run(config, out, Reporter()), out)


def _configured(name: str, algorithm: str | None, settings: list[str]) -> "TrainConfig":
    """The recipe with another algorithm, where one is named, and settings over it."""
    from trainer.algorithms import use
    from trainer.overrides import override
    from trainer.runs import load_recipe

    recipe = load_recipe(name)
    return override(recipe, settings) if algorithm is None else use(recipe, algorithm, settings)


def _resume(folder: Path, processes: int | None, trust: bool) -> int:
    from trainer.config import ConfigError
    from trainer.progress import Reporter
    from trainer.runs import processes_of, refuse_acting, resumed_run
    from trainer.started import to_launch

    if processes is not None and processes < 1:
        raise ConfigError(f"--processes must be at least 1, got {processes}")
    if not trust:
        refuse_acting(folder, f"aem-train resume {quoted(folder)}")  # said once, not by every process
    wanted, setting = (processes_of(folder), None) if processes is None else (processes, "--processes")
    if to_launch(wanted, setting):
        if processes is None and wanted > (most := max(8, os.cpu_count() or 1)):
            raise ConfigError(f"{folder} wants {wanted} processes, more than {most}: say how many by --processes N")
        return _launch(wanted, ["resume", str(folder), *["--trust"] * trust], folder)
    return _train(resumed_run(folder, Reporter(), trust=trust), folder)


def _launch(processes: int, words: list[str], out: Path) -> int:
    """Run the same command as several processes; what there is to say each of them says, unless it is ended."""
    from trainer.launch import launch

    try:
        return launch(processes, words)
    except KeyboardInterrupt:
        return _interrupted(out)


def _interrupted(out: Path) -> int:
    how = f"continue with `{_again(out)}`" if (out / "config.json").exists() else "nothing was written"
    _say(f"\ninterrupted; the last checkpoint is kept: {how}", sys.stderr)
    return 130


def _again(out: Path) -> str:
    from trainer.runs import resume_command

    return resume_command(out)


def _train(opening: "AbstractContextManager[Session]", out: Path) -> int:
    """Train in a run folder, and say how to go on if it is interrupted or fails; of several, one process does."""
    from trainer.launch import launched
    from trainer.loop import train
    from trainer.started import started
    from trainer.stopping import StoppedRun
    from trainer.world import leave, say_failure

    us, says = started(), not launched()  # asked before `opening` forgets it
    code, rank = 0, us.rank
    try:
        with opening as session, session.stop.on_ctrl_c(say=says and not rank):
            session.reporter.finished(train(session), out)
    except StoppedRun:
        if not rank:
            _say(f"stopped; all that was done is saved: continue with `{_again(out)}`", sys.stderr)
        code = 130
    except KeyboardInterrupt:
        code = 130 if rank else _interrupted(out)
    except BrokenPipeError:
        raise
    except Exception as error:
        if us.size == 1:
            raise
        code = say_failure(rank, error)
    return leave(code) if code and us.size > 1 else code


def _say(words: str, file: TextIO | None = None) -> None:
    """Print what may hold names from elsewhere: folders, recipes, settings."""
    from aem_envs.sanitize import plain

    print(plain(words), file=file)


def _list() -> int:
    from trainer.algorithms import DESCRIPTIONS
    from trainer.runs import load_recipe, recipe_names

    for name in recipe_names():
        _say(f"{name:22} {load_recipe(name).description}")
    print("\nalgorithms, for any recipe (--algorithm NAME):")
    for name, line in DESCRIPTIONS.items():
        print(f"{name:22} {line}")
    return 0


def _dry_run(config: "TrainConfig") -> int:
    """Show the configuration; check environment, tasks, prompts, estimator and experts without training."""
    from trainer.dry_run import dry_run

    _say("\n".join(dry_run(config)))
    return 0


def _report(folder: Path) -> int:
    """Write what has been recorded so far as a page; the run may go on meanwhile."""
    from trainer.finish import write_report

    _say(f"wrote {write_report(folder)}")
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
    _say(f"wrote {folder}: load it with transformers' AutoModelForCausalLM, or train it with --set model.path={folder}")
    return 0


if __name__ == "__main__":
    main()
