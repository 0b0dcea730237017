"""`aem-eval`: run evaluations, score, compare, view and export them. Arguments here, what they do in `eval_commands`.

Exit codes: 0 done; 2 wrong use or a known error; 3 done, but errored or missing episodes remain (resume plays them);
130 Ctrl-C, with everything played so far recorded and summed up.
"""

import argparse
from pathlib import Path
from typing import Any

from aem_suite.version import ShowVersion

RUN_EXAMPLES = """examples:
  aem-eval run aem/ALFWorld-v0 -m expert -n 100
  aem-eval run aem/ALFWorld-v0 -m runs/train/best -n 50 -r 4 --temperature 0.4
  aem-eval run aem/ALFWorld-v0 -m random --env source=official --split valid_seen
  aem-eval run aem/ALFWorld-v0 -m openai:NAME --base-url http://localhost:8000/v1
  aem-eval run --resume runs/eval-...            (again with --base-url, if it asked an endpoint)

exit codes: 0 done; 2 wrong use or a known error; 3 errored or missing episodes remain; 130 Ctrl-C"""


def build_parser() -> argparse.ArgumentParser:
    """All subcommands. Options of `run` have no defaults here, so that --resume can tell what was asked for."""
    parser = argparse.ArgumentParser(prog="aem-eval", description="Evaluate policies on text environments.")
    parser.add_argument("--version", action=ShowVersion)
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

    view = commands.add_parser("view", help="browse a run's episodes, or two runs side by side; or print one episode")
    view.add_argument("dir", type=Path, help="an evaluation, or a training run")
    view.add_argument("dir2", type=Path, nargs="?", help="another one, to be compared with the first")
    view.add_argument("--no-browser", action="store_true", help="only write the page and print its path")
    view.add_argument("--episode", type=int, metavar="N", help="print episode N (from 1, as numbered in the page)")
    view.add_argument("--out", type=Path, metavar="FILE", help="the page (default DIR/view.html, DIR2/compare.html)")

    export = commands.add_parser("export", help="turn won episodes into training data for behaviour cloning (JSONL)")
    export.add_argument("dir", type=Path)
    export.add_argument("--format", default="sft", metavar="{sft,messages}", help="default sft")
    export.add_argument("--out", type=Path, required=True, metavar="FILE")
    export.add_argument("--force", action="store_true", help="replace FILE if it exists")
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
    add(
        "-m",
        "--model",
        help="random, expert, expert-search (or another expert of the environment), scripted:FILE, openai:NAME, "
        "a model folder, or module:factory",
    )
    add(
        "--engine",
        metavar="NAME",
        help="of a model folder: torch (default), vllm, vllm-server; of openai:NAME: openai (chat, default), "
        "completions; or module:Class",
    )
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
    add("--tokenizer", metavar="DIR", help="of openai:NAME: send token ids; the folder of the model's tokenizer")
    add("--prices", metavar="IN,OUT", help="US dollars per million tokens of prompt and response, to sum up costs")
    add("-c", "--concurrency", type=int, default=16, metavar="N", help="episodes in flight (default 16)")
    add("--retries", type=int, default=2, help="after an infrastructure error (default 2)")
    add("--pool", default="inline", metavar="NAME", help="where environments live: inline (here), processes, ray")
    add("--workers", type=int, default=None, metavar="N", help="of pools (default: one per processor, at most 8)")
    add("--step-limit", type=float, default=None, metavar="S", help="seconds of one environment step")
    add("--episode-limit", type=float, default=None, metavar="S", help="seconds of one episode")
    add("--memory-limit", type=float, default=None, metavar="GB", help="of one worker process")
    add("--device", default="cpu", help="of a model folder: cpu, cuda, … (default cpu)")
    add("--out", type=Path, default=None, metavar="DIR", help="run folder (default runs/eval-…)")
    add("--resume", type=Path, default=None, metavar="DIR", help="play what is missing or errored in a run folder")
    add(
        "--trust",
        action="store_true",
        default=False,
        help="import and start what the folder of --resume or -m names: only for folders of your own, or that you know",
    )
    add("--json", action="store_true", default=False, help="print the summary as JSON and nothing else")
    add("--dry-run", action="store_true", default=False, help="show what would be played, and play nothing")


def main(argv: list[str] | None = None) -> None:
    """Entry point of `aem-eval`; exits with the code described above."""
    args = build_parser().parse_args(argv)
    from aem_agent.eval_commands import COMMANDS  # only now: Gymnasium alone takes longer to load than --help may
    from aem_envs.cli_common import run_main

    run_main(lambda: COMMANDS[args.command](args))


if __name__ == "__main__":
    main()
