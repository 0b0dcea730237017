"""`aem-data ROOM COMMAND`, for the rooms alfworld, webshop and swebench."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from aem_suite.version import ShowVersion

ALFWORLD_HOME = "~/.cache/alfworld"
WEBSHOP_HOME = "~/.cache/webshop"
SWEBENCH_HOME = "~/.cache/swebench"
"""Where official data go if nothing else is said."""

_SWEBENCH_SETS = ("verified", "lite", "full", "r2e-gym", "r2e-gym-lite", "swe-gym", "swe-gym-lite", "swe-smith")
_ALFWORLD_SPLITS = ("train", "valid_seen", "valid_unseen")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main = argparse.ArgumentParser(prog="aem-data", description="Task data: list it, write it, fetch it.")
    main.add_argument("--version", action=ShowVersion)
    rooms = main.add_subparsers(dest="room", required=True, metavar="ROOM")
    _alfworld(rooms.add_parser("alfworld", help="household games, generated and official"))
    _webshop(rooms.add_parser("webshop", help="products and goals of the shop, generated and official"))
    _swebench(rooms.add_parser("swebench", help="repositories with issues, embedded and official"))
    return main


def _alfworld(room: argparse.ArgumentParser) -> None:
    commands = room.add_subparsers(dest="command", required=True, metavar="COMMAND")
    ls = commands.add_parser("ls", help="list tasks")
    stats = commands.add_parser("stats", help="splits with counts, task types and hashes")
    export = commands.add_parser("export", help="write generated games as game.tw-pddl folders that alfworld plays")
    fetch = commands.add_parser("download", help="fetch the official games where the internet is reachable")
    for command in (ls, stats):
        _source(command, "ALFWORLD_DATA")
    for command in (ls, stats, export):
        command.add_argument("--size", default="small", help="embedded rooms: small (default), medium, official")
    for command in (ls, export):
        command.add_argument(
            "--split", default="valid_seen", help=f"{', '.join(_ALFWORLD_SPLITS)} (default: valid_seen)"
        )
        command.add_argument("--n", type=_count, default=20, help="how many (default: 20)")
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="below it come json_2.1.1/SPLIT/…")
    export.add_argument("--start", type=_count, default=0, help="number of the first game (default: 0)")
    export.add_argument("--dialect", choices=("current", "old"), default="current", help="default: current")
    export.add_argument(
        "--grammar-from", type=Path, metavar="FILE",
        help="take domain and grammar from this game.tw-pddl (default: from the installed alfworld); needed for old",
    )  # fmt: skip
    export.add_argument("--walkthrough", action="store_true", help="add the expert's winning actions to each game")
    _fetching(fetch, "ALFWORLD_DATA", ALFWORLD_HOME)


def _webshop(room: argparse.ArgumentParser) -> None:
    commands = room.add_subparsers(dest="command", required=True, metavar="COMMAND")
    ls = commands.add_parser("ls", help="list tasks")
    stats = commands.add_parser("stats", help="products by section, goals by split, hashes")
    generate = commands.add_parser("generate", help="write generated products and goals in the official format")
    fetch = commands.add_parser("download", help="fetch the official files where the internet is reachable")
    for command in (ls, stats):
        _source(command, "WEBSHOP_DATA")
        command.add_argument(
            "--products", type=_number, help="embedded: how many (default: 1000); official: the first N"
        )
        command.add_argument("--goals", choices=("human", "synthetic"), default="human", help="default: human")
        command.add_argument(
            "--tagger", choices=("auto", "spacy", "lexicon"), default="auto", help="official: noun tagger"
        )
    ls.add_argument("--split", default="test", help="train, dev or test (default: test)")
    ls.add_argument("--n", type=_count, default=20, help="how many (default: 20)")
    generate.add_argument("--products", type=_number, default=1000, help="how many (default: 1000)")
    generate.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets the three official files")
    fetch.add_argument(
        "--size", choices=("1000", "all"), default="1000", help="products: 1000 (default) or all 1.18 million"
    )
    _fetching(fetch, "WEBSHOP_DATA", WEBSHOP_HOME)


def _swebench(room: argparse.ArgumentParser) -> None:
    commands = room.add_subparsers(dest="command", required=True, metavar="COMMAND")
    ls = commands.add_parser("ls", help="list tasks")
    stats = commands.add_parser("stats", help="tasks by split, repository and type")
    prepare = commands.add_parser("prepare", help="fetch and prepare repositories and images ahead of a run")
    check = commands.add_parser("validate", help="grade the empty and the gold patch: which tasks are sound here")
    rows = commands.add_parser("rows", help="write tasks as rows that `swebench eval` reads")
    for command in (ls, stats, prepare, check, rows):
        _source(command, "SWEBENCH_DATA")
        command.add_argument("--specs", metavar="FILE", help="official: what rows of swebench 4.x lack")
        command.add_argument("--namespace", metavar="NAME", help="official: prefix of prebuilt images")
        command.add_argument(
            "--image", metavar="IMAGE", help="official: one image for all rows; {instance_id} is replaced"
        )
    for command in (ls, prepare, check, rows):
        command.add_argument("--split", help="default: all")
        command.add_argument("--n", type=_count, help="the first so many (default: all)")
        command.add_argument("--instance", action="append", metavar="ID", help="only this one; repeatable")
    for command in (prepare, check):
        command.add_argument("--sandbox", help="local, docker (default: local for embedded tasks, docker for official)")
        command.add_argument("--allow-unsafe", action="store_true", help="local: also without isolation")
    check.add_argument("file", nargs="?", type=Path, metavar="FILE", help="rows: as --source official --data FILE")
    check.add_argument("--timeout", type=float, default=300.0, help="seconds for the tests of one (default: 300)")
    check.add_argument("--workers", type=_number, default=2, help="at once (default: 2)")
    check.add_argument(
        "--out", type=Path, metavar="FILE", help="outcomes, and leave out what it holds (default: all, into the cache)"
    )
    rows.add_argument("--out", type=Path, required=True, metavar="FILE", help="a .jsonl file")
    rows.add_argument("--docker", action="store_true", help="prepare images, and name them in the rows")
    generate = commands.add_parser("generate", help="make embedded tasks anew, by mutation")
    generate.add_argument("--package", action="append", metavar="NAME", help="only this one; repeatable")
    generate.add_argument("--tasks", type=_number, default=27, help="of each package (default: 27)")
    generate.add_argument("--seed", type=_count, default=7, help="default: 7, as in the manifest")
    generate.add_argument("--workers", type=_number, default=2, help="at once (default: 2)")
    generate.add_argument("--sandbox", help="default: local")
    generate.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets one file a package")
    commands.add_parser("clean", help="remove prepared repositories and container images")
    fetch = commands.add_parser("download", help="fetch official rows where the internet is reachable")
    fetch.add_argument("dataset", choices=_SWEBENCH_SETS)
    _fetching(fetch, None, SWEBENCH_HOME)


def _source(command: argparse.ArgumentParser, variable: str) -> None:
    command.add_argument("--source", choices=("embedded", "official"), default="embedded", help="default: embedded")
    command.add_argument("--data", metavar="DIR", help=f"official data (default: ${variable})")
    command.add_argument("--json", action="store_true", help="print JSON")


def _fetching(command: argparse.ArgumentParser, variable: str | None, home: str) -> None:
    default = f"${variable}, else {home}" if variable else home
    command.add_argument("--to", type=Path, metavar="DIR", help=f"default: {default}")
    command.add_argument("--force", action="store_true", help="fetch again what is there already")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a count (0, 1, 2, …)")
    return int(text)


def _number(text: str) -> int:
    if _count(text) == 0:
        raise argparse.ArgumentTypeError("at least 1 is needed")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `aem-data`; always raises SystemExit."""
    options = parser().parse_args(arguments)
    from importlib import import_module

    from aem_envs.cli_common import run_main  # only now: Gymnasium alone takes longer to load than --help may

    commands = import_module(f"aem_envs.{options.room}.data_commands").COMMANDS
    run_main(lambda: commands[options.command](options))


if __name__ == "__main__":
    main()
