"""`aem-data alfworld ls | stats | export | download`: look at, write and fetch task data."""

import argparse
from collections.abc import Sequence
from pathlib import Path

_SPLITS = ("train", "valid_seen", "valid_unseen")
HOME = "~/.cache/alfworld"
"""Where the official data go if nothing else is said."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main = argparse.ArgumentParser(prog="aem-data", description="Task data: list it, export it, fetch it.")
    rooms = main.add_subparsers(dest="room", required=True, metavar="ROOM")
    alfworld = rooms.add_parser("alfworld", help="household games, generated and official")
    commands = alfworld.add_subparsers(dest="command", required=True, metavar="COMMAND")
    ls = commands.add_parser("ls", help="list tasks")
    stats = commands.add_parser("stats", help="splits with counts, task types and hashes")
    export = commands.add_parser("export", help="write generated games as game.tw-pddl folders that alfworld plays")
    fetch = commands.add_parser("download", help="fetch the official games where the internet is reachable")
    for command in (ls, stats):
        command.add_argument("--source", choices=("embedded", "official"), default="embedded", help="default: embedded")
        command.add_argument("--data", metavar="DIR", help="official data (default: $ALFWORLD_DATA)")
        command.add_argument("--json", action="store_true", help="print JSON")
    for command in (ls, stats, export):
        command.add_argument("--size", default="small", help="embedded rooms: small (default), medium, official")
    for command in (ls, export):
        command.add_argument("--split", default="valid_seen", help=f"{', '.join(_SPLITS)} (default: valid_seen)")
        command.add_argument("--n", type=_count, default=20, help="how many (default: 20)")
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="below it come json_2.1.1/SPLIT/…")
    export.add_argument("--start", type=_count, default=0, help="number of the first game (default: 0)")
    export.add_argument("--dialect", choices=("current", "old"), default="current", help="default: current")
    export.add_argument(
        "--grammar-from", type=Path, metavar="FILE",
        help="take domain and grammar from this game.tw-pddl (default: from the installed alfworld); needed for old",
    )  # fmt: skip
    export.add_argument("--walkthrough", action="store_true", help="add the expert's winning actions to each game")
    fetch.add_argument("--to", type=Path, metavar="DIR", help=f"default: $ALFWORLD_DATA, else {HOME}")
    fetch.add_argument("--force", action="store_true", help="fetch again what is there already")
    return main


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a count (0, 1, 2, …)")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `aem-data`; always raises SystemExit."""
    options = parser().parse_args(arguments)
    from aem_envs.cli_common import run_main  # only now: Gymnasium alone takes longer to load than --help may
    from aem_envs.data_commands import COMMANDS

    run_main(lambda: COMMANDS[options.command](options))


if __name__ == "__main__":
    main()
