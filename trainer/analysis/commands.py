"""`aem-train analyse …`: its arguments, and what each command calls. Nothing heavy is loaded before it is needed."""

import argparse
from pathlib import Path
from typing import Any


def add_analyse(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `analyse` with its three commands to those of `aem-train`."""
    analyse = commands.add_parser("analyse", help="analyses of a run: CSV files and figures in RUN/analysis")
    which = analyse.add_subparsers(dest="analysis", required=True, metavar="ANALYSIS")
    surprisal = which.add_parser("surprisal", help="relative surprisal of responses against their α, by Monte Carlo")
    _add_run(surprisal)
    surprisal.add_argument("--states", type=_positive, default=64, metavar="N", help="states (default: 64)")
    surprisal.add_argument("--draws", type=_at_least_two, default=256, metavar="N", help="per state (default: 256)")
    surprisal.add_argument(
        "--environment-check",
        action="store_true",
        help="play each taken response again from its restored state: the same observation must come",
    )
    surprisal.add_argument("--seed", type=int, help="of episodes, states and draws (default: the run's)")
    _add_weights(surprisal, "best")
    mask = which.add_parser("entropy-mask", help="entropy in short trainings under sign masks of A·(α − 1)")
    _add_run(mask)
    mask.add_argument("--steps", type=_at_least_two, default=30, metavar="N", help="RL steps of each (default: 30)")
    _add_weights(mask, "warmstart")
    alpha = which.add_parser("alpha", help="α and the shares of advantages over training, from metrics.jsonl alone")
    _add_run(alpha)


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", type=Path, metavar="RUN", help="a folder of `aem-train run`")


def _add_weights(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument(
        "--weights", type=Path, metavar="DIR", help=f"model folder or checkpoint of the run (default: RUN/{default})"
    )
    command.add_argument("--trust", action="store_true", help="import and start what the run's folder names")


def _positive(text: str) -> int:
    return _at_least(text, 1)


def _at_least_two(text: str) -> int:
    return _at_least(text, 2)


def _at_least(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"must be a whole number from {least}, not {text!r}")
    return value


def analyse(arguments: argparse.Namespace) -> int:
    """Do what was asked for, print what came of it, and say where the files are."""
    from aem_agent.files import quoted
    from aem_envs.sanitize import plain
    from trainer.progress import Reporter
    from trainer.runs import refuse_acting

    run: Path = arguments.run
    reporter = Reporter()
    if arguments.analysis != "alpha" and not arguments.trust:
        refuse_acting(run, f"aem-train analyse {arguments.analysis} {quoted(run)}")
    if arguments.analysis == "alpha":
        from trainer.analysis.alpha import analyse_alpha

        found = analyse_alpha(run)
    elif arguments.analysis == "entropy-mask":
        from trainer.analysis.entropy_mask import analyse_entropy_mask

        found = analyse_entropy_mask(run, steps=arguments.steps, weights=arguments.weights, reporter=reporter)
    else:
        from trainer.analysis.surprisal import analyse_surprisal

        found = analyse_surprisal(
            run,
            states=arguments.states,
            draws=arguments.draws,
            weights=arguments.weights,
            seed=arguments.seed,
            environment_check=arguments.environment_check,
            reporter=reporter,
        )
    print(plain("\n".join([*found.lines, *(f"wrote {path}" for path in found.files)])))
    return 0
