"""What the subcommands of `aem-envs` do. Each takes the parsed arguments and returns the exit code."""

import argparse
import json
import warnings
from collections.abc import Sequence
from typing import Any

from aem_envs.cli_common import CliError, parse_settings
from aem_envs.sanitize import plain

warnings.filterwarnings("ignore", category=UserWarning, module="gymnasium")


def _ls(options: argparse.Namespace) -> int:
    import gymnasium as gym

    from aem_envs.registration import env_class, env_ids

    known = set(gym.registry)
    for module in options.modules:
        __import__(module)
    ids = [*env_ids(), *(new for new in gym.registry if new not in known and new not in env_ids())]
    rows = [(env_id, (env_class(env_id).__doc__ or "").strip().split("\n")[0]) for env_id in ids]
    if options.json:
        print(json.dumps([{"id": env_id, "summary": summary} for env_id, summary in rows], indent=2))
    else:
        _table(rows)
    return 0


def _info(options: argparse.Namespace) -> int:
    from aem_envs.describe import as_text, describe

    found = describe(options.id, parse_settings(options.env))
    print(json.dumps(found, indent=2) if options.json else plain(as_text(found)))
    return 0


def _check(options: argparse.Namespace) -> int:
    from aem_envs.checks import run_checks
    from aem_envs.registration import env_ids, make_env

    settings = parse_settings(options.env)
    if settings and len(options.ids) != 1:
        raise CliError("--env goes with exactly one ID")
    report: dict[str, dict[str, str | None]] = {}
    for env_id in options.ids or env_ids():
        env = make_env(env_id, **settings)
        try:
            report[env_id] = {result.name: result.error for result in run_checks(env)}
        finally:
            env.close()
    failed = sum(error is not None for results in report.values() for error in results.values())
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        rows = [(env_id, name, error or "ok") for env_id, results in report.items() for name, error in results.items()]
        _table([("environment", "check", "result"), *rows])
        print(f"{failed} of {len(rows)} checks failed" if failed else f"all {len(rows)} checks passed")
    return 1 if failed else 0


def _play(options: argparse.Namespace) -> int:
    from aem_envs.registration import make_env

    if not options.browser and (options.port is not None or options.no_open):
        raise CliError("--port and --no-open go with --browser")
    env = make_env(options.id, **parse_settings(options.env))
    try:
        if options.browser:
            from aem_envs.webshop.browser.play import play_in_browser

            play_in_browser(env, options.seed, options.split, options.task, options.port or 0, not options.no_open)
        else:
            from aem_envs.play import play

            play(env, seed=options.seed, split=options.split, task_id=options.task)
    finally:
        env.close()
    return 0


def _table(rows: Sequence[Sequence[Any]]) -> None:
    """Columns as wide as their widest cell."""
    cells = [[plain(" ".join(str(cell).split())) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


COMMANDS = {"ls": _ls, "info": _info, "check": _check, "play": _play}
