"""`aem-data alfworld ls | stats | export | download` and `aem-data webshop ls | stats | generate | download`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

ALFWORLD_HOME = "~/.cache/alfworld"
WEBSHOP_HOME = "~/.cache/webshop"
"""Where official data go if nothing else is said."""

_ALFWORLD_SPLITS = ("train", "valid_seen", "valid_unseen")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main = argparse.ArgumentParser(prog="aem-data", description="Task data: list it, write it, fetch it.")
    rooms = main.add_subparsers(dest="room", required=True, metavar="ROOM")
    _alfworld(rooms.add_parser("alfworld", help="household games, generated and official"))
    _webshop(rooms.add_parser("webshop", help="products and goals of the shop, generated and official"))
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


def _source(command: argparse.ArgumentParser, variable: str) -> None:
    command.add_argument("--source", choices=("embedded", "official"), default="embedded", help="default: embedded")
    command.add_argument("--data", metavar="DIR", help=f"official data (default: ${variable})")
    command.add_argument("--json", action="store_true", help="print JSON")


def _fetching(command: argparse.ArgumentParser, variable: str, home: str) -> None:
    command.add_argument("--to", type=Path, metavar="DIR", help=f"default: ${variable}, else {home}")
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
