"""`--version` of the four commands, which answers as fast as `--help`."""

import argparse
import platform
from collections.abc import Sequence
from typing import Any

NOT_INSTALLED = "0+unknown"
"""Where the packages are only on the path, and no metadata says which version they are."""


def installed_version() -> str:
    """The version of the installed distribution `aem-suite`."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("aem-suite")
    except PackageNotFoundError:
        return NOT_INSTALLED


class ShowVersion(argparse.Action):
    """Prints one line, "aem-suite 0.1.0 (Python 3.11.7)", and ends the command."""

    def __init__(self, option_strings: Sequence[str], dest: str, **_: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="print the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        print(f"aem-suite {installed_version()} (Python {platform.python_version()})")
        parser.exit()
