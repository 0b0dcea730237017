"""`aem-eval`: run evaluations, score, compare, view and export them.

Exit codes: 0 done; 2 wrong use or a known error; 3 done, but errored or missing episodes remain (resume plays them);
130 Ctrl-C, with everything played so far recorded and summed up.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aem_envs.cli_common import CliError, parse_settings, run_main

if TYPE_CHECKING:
    from rich.console import Console

    from aem_agent.evaluate import EvalConfig, Plan
    from aem_agent.run_folder import RunFolder
    from aem_agent.summary import Summary

INCOMPLETE = 3
"""Exit code when errored or missing episodes remain."""

RUN_EXAMPLES = """examples:
  aem-eval run aem/ALFWorld-v0 -m expert -n 100
  aem-eval run aem/ALFWorld-v0 -m runs/train/best -n 50 -r 4 --temperature 0.4
  aem-eval run aem/ALFWorld-v0 -m random --env source=official --split valid_seen
  aem-eval run aem/ALFWorld-v0 -m openai:NAME --base-url http://localhost:8000/v1
  aem-eval run --resume runs/eval-...

exit codes: 0 done; 2 wrong use or a known error; 3 errored or missing episodes remain; 130 Ctrl-C"""


def build_parser() -> argparse.ArgumentParser:
    """All subcommands. Options of `run` have no defaults here, so that --resume can tell what was asked for."""
    parser = argparse.ArgumentParser(prog="aem-eval", description="Evaluate policies on text environments.")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_run(commands)

    score = commands.add_parser("score", help="compute summary and report again from episodes.jsonl")
    score.add_argument("dir", type=Path)
    score.add_argument("--json", action="store_true", help="print the summary as JSON and nothing else")

    compare = commands.add_parser("compare", help="run B against run A on their common tasks (paired bootstrap)")
    compare.add_argument("a", type=Path)
    compare.add_argument("b", type=Path)
    compare.add_argument("--seed", type=int, default=0, help="of the bootstrap (default 0)")
    compare.add_argument("--force", action="store_true", help="compare even if environment, split or task data differ")
    compare.add_argument("--json", action="store_true", help="print the comparison as JSON and nothing else")

    view = commands.add_parser("view", help="write and open report.html, or print one episode")
    view.add_argument("dir", type=Path)
    view.add_argument("--no-browser", action="store_true", help="only write the report and print its path")
    view.add_argument("--episode", type=int, metavar="N", help="print episode N (from 1, as numbered in the report)")

    export = commands.add_parser("export", help="turn won episodes into training data for behaviour cloning (JSONL)")
    export.add_argument("dir", type=Path)
    export.add_argument("--format", default="sft", metavar="{sft,messages}", help="default sft")
    export.add_argument("--out", type=Path, required=True, metavar="FILE")
    export.add_argument("--all", action="store_true", help="also episodes that were not won; errored ones never")
    return parser


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="play tasks and record every episode",
        argument_default=argparse.SUPPRESS,
        epilog=RUN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = run.add_argument
    add("env_id", nargs="?", metavar="ENV", help="environment id, as aem/ALFWorld-v0, or module:EnvId")
    add("-m", "--model", help="random, expert, expert-search, scripted:FILE, openai:NAME, or a model folder")
    add("-n", "--tasks", type=int, metavar="TASKS", help="the first so many tasks of the split (default all)")
    add("-r", "--repeats", type=int, metavar="REPEATS", help="attempts at each task (default 1)")
    add("--split", help="default: the environment's first split that is not for training")
    add("--env", action="append", metavar="KEY=VALUE", help="argument of the environment; repeatable")
    add("--seed", type=int, help="default 0")
    add("--max-steps", type=int, metavar="N", help="default: the environment's own limit")
    add("--temperature", type=float, help="of model policies; 0 is greedy (default 0.4)")
    add("--max-new-tokens", type=int, metavar="N", help="per response (default: as the model was trained, else 512)")
    add("--prompt", help="name of a prompt spec, or module:attribute (default: as the model was trained)")
    add("--base-url", metavar="URL", help="endpoint of openai:NAME (default OPENAI_BASE_URL; key in OPENAI_API_KEY)")
    add("-c", "--concurrency", type=int, default=16, metavar="N", help="episodes in flight (default 16)")
    add("--retries", type=int, default=2, help="after an infrastructure error (default 2)")
    add("--device", default="cpu", help="of a model folder: cpu, cuda, … (default cpu)")
    add("--out", type=Path, default=None, metavar="DIR", help="run folder (default runs/eval-…)")
    add("--resume", type=Path, default=None, metavar="DIR", help="play what is missing or errored in a run folder")
    add("--json", action="store_true", default=False, help="print the summary as JSON and nothing else")
    add("--dry-run", action="store_true", default=False, help="show what would be played, and play nothing")


def _console() -> "Console":
    from rich.console import Console

    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:  # a file or a pipe has no width: let tables have room
        console.width = 120
    return console


def _print_json(data: Any) -> None:
    import json

    print(json.dumps(data, indent=2))


def _config(args: argparse.Namespace) -> "EvalConfig":
    """What was asked for; with --resume, the folder's own except where asked otherwise, which is then refused."""
    from dataclasses import fields

    from aem_agent.evaluate import EvalConfig
    from aem_agent.run_folder import RunFolder

    given = {f.name: getattr(args, f.name) for f in fields(EvalConfig) if hasattr(args, f.name)}
    if "env" in given:
        given["env"] = parse_settings(given["env"])
    if given.get("model", "").startswith("openai:"):  # recorded, so that a resumed run asks the same endpoint
        given.setdefault("base_url", os.environ.get("OPENAI_BASE_URL"))
    if args.resume:
        if args.out not in (None, args.resume):
            raise CliError("--resume continues in its own folder: leave out --out")
        stored = RunFolder.open(args.resume).config
        given = {f.name: stored[f.name] for f in fields(EvalConfig) if f.name in stored} | given
    if not given.get("env_id") or not given.get("model"):
        raise CliError("say what to evaluate: aem-eval run ENV -m MODEL, or aem-eval run --resume DIR")
    return EvalConfig(**given)


def _default_out(config: "EvalConfig") -> Path:
    """runs/eval-ENV-MODEL-TIME, not used yet."""
    import re
    from datetime import datetime

    slug = re.sub(r"[^A-Za-z0-9.]+", "-", f"{config.env_id.rpartition('/')[2]}-{Path(config.model).name}").strip("-.")
    stem = f"eval-{slug}-{datetime.now():%Y%m%d-%H%M%S}"
    names = (stem if i == 1 else f"{stem}-{i}" for i in range(1, 1000))
    return next(path for name in names if not (path := Path("runs") / name).exists())


def run(args: argparse.Namespace) -> int:
    """`aem-eval run`."""
    config = _config(args)
    if args.concurrency < 1 or args.retries < 0:
        raise CliError("--concurrency must be at least 1 and --retries at least 0")

    from aem_agent.evaluate import evaluate, open_folder, prepare
    from aem_agent.policies import make_policy
    from aem_agent.terminal import EvalProgress, print_summary

    plan = prepare(config)
    if args.dry_run:
        return _dry_run(plan, args)
    policy = make_policy(
        plan.config.model,
        env_id=plan.env_id,
        prompt=config.prompt,
        temperature=config.temperature,
        max_new_tokens=config.max_new_tokens,
        base_url=config.base_url,
        concurrency=args.concurrency,
        device=args.device,
    )
    folder = open_folder(plan, args.resume or args.out or _default_out(plan.config), resume=args.resume is not None)
    _note_versions(folder)
    with EvalProgress(plan.episodes, len(folder.completed())) as progress:
        result = evaluate(plan, policy, folder, concurrency=args.concurrency, retries=args.retries, on_episode=progress)
    if args.json:
        _print_json(result.summary.to_json())
    else:
        console = _console()
        print_summary(console, result.summary, plan.config.model)
        console.print(f"{folder.path}  (aem-eval view {folder.path})", markup=False, soft_wrap=True)
    if result.interrupted or result.summary.errors:
        print(f"to play the rest: aem-eval run --resume {folder.path}", file=sys.stderr)
    return 130 if result.interrupted else _code(result.summary)


def _code(summary: "Summary") -> int:
    return INCOMPLETE if summary.errors or summary.missing else 0


def _dry_run(plan: "Plan", args: argparse.Namespace) -> int:
    if args.json:
        _print_json({**plan.record, "episodes": plan.episodes})
        return 0
    console = _console()
    for key, value in plan.record.items():
        console.print(f"{key:<16} {value}", markup=False, soft_wrap=True)
    first = ", ".join(task.task_id for task in plan.tasks[:3]) + (", …" if len(plan.tasks) > 3 else "")
    console.print(f"{'task ids':<16} {first}", markup=False, soft_wrap=True)
    console.print(f"{'episodes':<16} {plan.episodes} (nothing was played)", markup=False)
    return 0


def _note_versions(folder: "RunFolder") -> None:
    """A resumed run mixes software versions: say so, since results may."""
    import json

    from aem_agent.run_folder import software_versions

    then = json.loads((folder.path / "config.json").read_bytes()).get("versions", {})
    now = software_versions()
    changed = [f"{k} {then.get(k)} → {now.get(k)}" for k in sorted({*then, *now}) if then.get(k) != now.get(k)]
    if changed:
        print(f"note: begun with other software: {', '.join(changed)}", file=sys.stderr)


def score(args: argparse.Namespace) -> int:
    """`aem-eval score`."""
    from aem_agent.evaluate import summarize_folder
    from aem_agent.run_folder import RunFolder

    folder = RunFolder.open(args.dir)
    summary = summarize_folder(folder)
    if args.json:
        _print_json(summary.to_json())
    else:
        from aem_agent.terminal import print_summary

        print_summary(_console(), summary, str(folder.config.get("model")))
    return _code(summary)


def compare(args: argparse.Namespace) -> int:
    """`aem-eval compare`."""
    from aem_agent.run_folder import RunFolder, differing
    from aem_agent.summary import compare as compare_episodes

    a, b = RunFolder.open(args.a), RunFolder.open(args.b)
    kept = ("env", "split", "max_steps")
    sides = [{k: run.config.get(k) for k in kept} for run in (a, b)]
    for side, run in zip(sides, (a, b)):
        side["env_id"] = str(run.config.get("env_id")).rpartition(":")[2]
    different = differing(*sides)
    if different and not args.force:
        raise CliError(f"the runs are not comparable ({'; '.join(different)}): --force compares them anyway")
    comparison = compare_episodes(a.episodes(), b.episodes(), seed=args.seed)
    if comparison.other_data and not args.force:
        raise CliError(f"{comparison.other_data} common tasks have other data in B: --force compares them anyway")
    if args.json:
        _print_json(comparison.to_json())
    else:
        from aem_agent.terminal import print_comparison

        names = (f"{path} ({folder.config.get('model')})" for path, folder in ((args.a, a), (args.b, b)))
        print_comparison(_console(), comparison, *names)
    return 0


def view(args: argparse.Namespace) -> int:
    """`aem-eval view`."""
    from aem_agent.evaluate import ordered_episodes, summarize_folder
    from aem_agent.run_folder import RunFolder

    folder = RunFolder.open(args.dir)
    if args.episode is not None:
        from aem_agent.terminal import print_episode

        episodes = ordered_episodes(folder)
        if not 1 <= args.episode <= len(episodes):
            raise CliError(f"{args.dir} has episodes 1 to {len(episodes)}, not {args.episode}")
        print_episode(_console(), episodes[args.episode - 1], args.episode, len(episodes))
        return 0
    summarize_folder(folder)
    print(folder.report_path)
    if not args.no_browser:
        import webbrowser

        if not webbrowser.open(folder.report_path.resolve().as_uri()):
            print("no browser here: open the file above", file=sys.stderr)
    return 0


def export(args: argparse.Namespace) -> int:
    """`aem-eval export`."""
    from aem_agent.export import export as export_episodes
    from aem_agent.run_folder import RunFolder

    episodes, steps = export_episodes(
        RunFolder.open(args.dir).episodes(), args.out, format=args.format, only_won=not args.all
    )
    print(f"{episodes} episodes, {steps} steps → {args.out}")
    return 0


COMMANDS = {"run": run, "score": score, "compare": compare, "view": view, "export": export}


def main(argv: list[str] | None = None) -> None:
    """Entry point of `aem-eval`; exits with the code described above."""
    args = build_parser().parse_args(argv)
    run_main(lambda: COMMANDS[args.command](args))


if __name__ == "__main__":
    main()
