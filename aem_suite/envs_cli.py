"""`aem-envs ls | info ID | check ID… | play ID`. Ids are registered ones ("aem/Toy-v0") or "module:EnvId"."""

import argparse
from collections.abc import Sequence

from aem_suite.version import ShowVersion


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main = argparse.ArgumentParser(prog="aem-envs", description="List, describe, check and play text environments.")
    main.add_argument("--version", action=ShowVersion)
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("ls", help="list the environments")
    listing.add_argument("modules", nargs="*", metavar="MODULE", help="import these first: they may register more")
    info = commands.add_parser("info", help="describe one: arguments, splits, capabilities, experts")
    check = commands.add_parser("check", help="check that environments keep the contract; exit code 1 if one does not")
    check.add_argument("ids", nargs="*", metavar="ID", help="default: all of this project")
    play = commands.add_parser("play", help="play in the terminal, or shop in a browser")
    for command in (info, play):
        command.add_argument("id", metavar="ID", help='"aem/Toy-v0", or "module:EnvId"')
    for command in (info, check, play):
        command.add_argument(
            "--env", action="append", default=[], metavar="KEY=VALUE", help="argument of the environment"
        )
    for command in (listing, info, check):
        command.add_argument("--json", action="store_true", help="print JSON")
    play.add_argument("--seed", type=int, help="seed of the first task drawn")
    play.add_argument("--split", help="draw from this split")
    play.add_argument("--task", metavar="TASK_ID", help="play this task")
    play.add_argument("--browser", action="store_true", help="shop in your browser (aem/WebShop-v0)")
    play.add_argument(
        "--port", type=int, metavar="N", help="with --browser: port of the page server (default: any free)"
    )
    play.add_argument("--no-open", action="store_true", help="with --browser: only print the address")
    return main


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `aem-envs`; always raises SystemExit."""
    options = parser().parse_args(arguments)
    from aem_envs.cli_common import run_main  # only now: Gymnasium alone takes longer to load than --help may
    from aem_envs.env_commands import COMMANDS

    run_main(lambda: COMMANDS[options.command](options))


if __name__ == "__main__":
    main()
