"""What the subcommands of `aem-eval` do. Each takes the parsed arguments and returns the exit code."""

import argparse
import json
import os
import re
import sys
import webbrowser
from dataclasses import astuple, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from aem_agent import comparison as comparisons
from aem_agent import viewer
from aem_agent.evaluate import (
    EvalConfig,
    Plan,
    comparable,
    evaluate,
    open_folder,
    prepare,
    summarize_folder,
)
from aem_agent.evaluation_record import missing, open_evaluation
from aem_agent.export import export as export_episodes
from aem_agent.files import quoted
from aem_agent.policies import make_policy
from aem_agent.pools import PoolLimits
from aem_agent.prices import Prices
from aem_agent.records import episode_at
from aem_agent.rollout import USAGE_ERRORS
from aem_agent.run_folder import RunFolder, differing, software_versions
from aem_agent.summary import Summary
from aem_agent.terminal import EvalProgress, print_comparison, print_episode, print_summary, print_usage
from aem_agent.trust import acting_in_evaluation, require_named_url, require_trust, resume_command, same_url
from aem_envs.cli_common import CliError, parse_settings
from aem_envs.sanitize import counted, cut, plain

DIFFERENCE = 500
"""Characters of a setting in which two runs differ that are shown."""
INCOMPLETE = 3
"""Exit code when errored or missing episodes remain."""


def _console() -> Console:
    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:  # a file or a pipe has no width: let tables have room
        console.width = 120
    return console


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=2))


def _config(args: argparse.Namespace) -> EvalConfig:
    """What was asked for; with --resume, the folder's own except where asked otherwise, which is then refused."""
    given = {f.name: getattr(args, f.name) for f in fields(EvalConfig) if hasattr(args, f.name)}
    if "env" in given:
        given["env"] = parse_settings(given["env"])
    if "prices" in given:
        given["prices"] = astuple(Prices.parse(given["prices"]))
    if not args.resume and given.get("model", "").startswith("openai:"):  # recorded: a resumed run asks the same one
        given.setdefault("base_url", os.environ.get("OPENAI_BASE_URL"))
    if args.resume:
        if args.out not in (None, args.resume):
            raise CliError("--resume continues in its own folder: leave out --out")
        given = _recorded(args, given)
    if not given.get("env_id") or not given.get("model"):
        raise CliError("say what to evaluate: aem-eval run ENV -m MODEL, or aem-eval run --resume DIR")
    return EvalConfig(**given)


def _recorded(args: argparse.Namespace, given: dict[str, Any]) -> dict[str, Any]:
    """The folder's configuration under what was given; raises `UntrustedRecordError` for what must be given again."""
    stored = open_evaluation(args.resume).config
    command = f"aem-eval run --resume {quoted(args.resume)}"
    if not args.trust:
        require_trust(args.resume, acting_in_evaluation(stored, named=given), command)
    if "base_url" not in given:
        require_named_url(args.resume, stored, command + " --trust" * args.trust)
    elif same_url(given["base_url"], stored.get("base_url")):
        given["base_url"] = stored["base_url"]
    return {f.name: stored[f.name] for f in fields(EvalConfig) if f.name in stored} | given


def _default_out(config: EvalConfig) -> Path:
    """runs/eval-ENV-MODEL-TIME, not used yet."""
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", f"{config.env_id.rpartition('/')[2]}-{Path(config.model).name}").strip("-.")
    stem = f"eval-{slug}-{datetime.now():%Y%m%d-%H%M%S}"
    names = (stem if i == 1 else f"{stem}-{i}" for i in range(1, 1000))
    return next(path for name in names if not (path := Path("runs") / name).exists())


def run(args: argparse.Namespace) -> int:
    """`aem-eval run`."""
    config = _config(args)
    if args.concurrency < 1 or args.retries < 0:
        raise CliError("--concurrency must be at least 1 and --retries at least 0")
    limits = _limits(args)
    plan = prepare(config)
    # refuses another configuration, or other data, before a model is loaded
    folder = open_folder(plan, args.resume, resume=True) if args.resume else None
    if args.dry_run:
        return _dry_run(plan, len(folder.completed()) if folder else 0, args)
    policy = make_policy(
        plan.config.model,
        engine=config.engine,
        env_id=plan.env_id,
        prompt=config.prompt,
        temperature=config.temperature,
        max_new_tokens=config.max_new_tokens,
        base_url=config.base_url,
        tokenizer=config.tokenizer,
        prices=Prices(*config.prices) if config.prices else None,
        concurrency=args.concurrency,
        device=args.device,
        trust=args.trust,
    )
    folder = folder or open_folder(plan, args.out or _default_out(plan.config), resume=False)
    _note_versions(folder)
    with EvalProgress(plan.episodes, len(folder.completed())) as progress:
        try:
            result = evaluate(
                plan,
                policy,
                folder,
                concurrency=args.concurrency,
                retries=args.retries,
                pool=args.pool,
                workers=args.workers,
                limits=limits,
                on_episode=progress,
                on_interrupt=progress.interrupted,
            )
        except USAGE_ERRORS:
            if args.resume is None:
                folder.discard()
            raise
    if args.json:
        _print_json(result.summary.to_json())
    else:
        console = _console()
        print_summary(console, result.summary, plan.config.model)
        print_usage(console, getattr(getattr(policy, "engine", None), "usage", None))
        shown = plain(f"{folder.path}  (aem-eval view {quoted(folder.path)})")
        console.print(shown, markup=False, soft_wrap=True)
    if result.interrupted or result.summary.errors:
        again = resume_command(folder.path, folder.config, trust=args.trust)
        print(plain(f"to play the rest: {again}"), file=sys.stderr)
    return 130 if result.interrupted else _code(result.summary)


def _limits(args: argparse.Namespace) -> PoolLimits:
    memory = None if args.memory_limit is None else int(args.memory_limit * 1e9)
    given = {"workers": args.workers, "step-limit": args.step_limit, "episode-limit": args.episode_limit}
    for name, value in (given | {"memory-limit": args.memory_limit}).items():
        if value is not None and not value > 0:
            raise CliError(f"--{name} must be above 0")
    return PoolLimits(step=args.step_limit, episode=args.episode_limit, memory=memory)


def _code(summary: Summary) -> int:
    return INCOMPLETE if summary.errors or summary.missing else 0


def _dry_run(plan: Plan, done: int, args: argparse.Namespace) -> int:
    left = plan.episodes - done
    if args.json:
        _print_json({**plan.record, "episodes": plan.episodes, "done": done, "remaining": left})
        return 0
    console = _console()
    for key, value in plan.record.items():
        console.print(plain(f"{key:<16} {value}"), markup=False, soft_wrap=True)
    first = ", ".join(task.task_id for task in plan.tasks[:3]) + (", …" if len(plan.tasks) > 3 else "")
    console.print(plain(f"{'task ids':<16} {first}"), markup=False, soft_wrap=True)
    resumed = f": {done} done, {left} to play" if args.resume else ""
    console.print(f"{'episodes':<16} {plan.episodes}{resumed} (nothing was played now)", markup=False)
    return 0


def _note_versions(folder: RunFolder) -> None:
    """A resumed run mixes software versions: say so, since results may."""
    then, now = folder.versions, software_versions()
    changed = [f"{k} {then.get(k)} → {now.get(k)}" for k in sorted({*then, *now}) if then.get(k) != now.get(k)]
    if changed:
        print(plain(f"note: begun with other software: {', '.join(changed)}"), file=sys.stderr)


def score(args: argparse.Namespace) -> int:
    """`aem-eval score`."""
    folder = open_evaluation(args.dir)
    summary = summarize_folder(folder)
    if args.json:
        _print_json(summary.to_json())
    else:
        print_summary(_console(), summary, str(folder.config.get("model")))
    return _code(summary)


def compare(args: argparse.Namespace) -> int:
    """`aem-eval compare`."""
    a, b = open_evaluation(args.a), open_evaluation(args.b)
    different = [cut(line, DIFFERENCE) for line in differing(comparable(a.config), comparable(b.config))]
    if different and not args.force:
        raise CliError(f"the runs are not comparable ({'; '.join(different)}): --force compares them anyway")
    played = a.episodes(), b.episodes()
    comparison = comparisons.compare(*played, seed=args.seed)
    if comparison.other_data and not args.force:
        raise CliError(f"{comparison.other_data} common tasks have other data in B: --force compares them anyway")
    if args.json:
        _print_json(comparison.to_json())
    else:
        names = (f"{path} ({folder.config.get('model')})" for path, folder in ((args.a, a), (args.b, b)))
        print_comparison(_console(), comparison, *names)
        for letter, folder, found in zip("AB", (a, b), played, strict=True):
            if left := missing(folder.config, len(found)):
                print(f"{letter} is incomplete: {counted(left, 'planned episode')} not played", file=sys.stderr)
    return 0


def view(args: argparse.Namespace) -> int:
    """`aem-eval view`."""
    folder = RunFolder.open(args.dir)
    if args.episode is not None:
        if args.dir2:
            raise CliError("--episode prints an episode of one run: leave the other out")
        records = viewer.records_in_order(folder)
        if not 1 <= args.episode <= len(records):
            raise CliError(f"{args.dir} has episodes 1 to {len(records)}, not {args.episode}")
        print_episode(_console(), episode_at(*records[args.episode - 1]), args.episode, len(records))
        return 0
    if args.dir2:
        page = viewer.write_comparison(folder, RunFolder.open(args.dir2), args.out)
    else:
        page = viewer.write_view(folder, args.out)
    print(plain(str(page)))
    if not args.no_browser and not webbrowser.open(page.resolve().as_uri()):
        print("no browser here: open the file above", file=sys.stderr)
    return 0


def export(args: argparse.Namespace) -> int:
    """`aem-eval export`."""
    episodes, steps = export_episodes(
        RunFolder.open(args.dir).episodes(), args.out, format=args.format, only_won=not args.all, force=args.force
    )
    # where the data went into a pipe, perhaps by way of stdout, they are all there is on it
    print(
        plain(f"{counted(episodes, 'episode')}, {counted(steps, 'step')} → {args.out}"),
        file=sys.stdout if args.out.is_file() else sys.stderr,
    )
    return 0


COMMANDS = {"run": run, "score": score, "compare": compare, "view": view, "export": export}
