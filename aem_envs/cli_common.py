"""What every command line of this project shares: `KEY=VALUE` settings, errors as one clear line, exit codes.

Exit codes: 0 done; 1 done, but something asked for did not hold (a failed check); 2 wrong use or a known error;
130 Ctrl-C; 141 the reader of our output went away.
"""

import ast
import math
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from aem_envs.extras import advice
from aem_envs.sanitize import plain
from aem_suite.commands import quiet_exit

Setting = bool | int | float | str | None

_ROOMS = ("aem_envs", "aem_agent", "trainer", "envs_data")
_WORDS: dict[str, Setting] = {"true": True, "false": False, "none": None, "null": None}


class CliError(Exception):
    """Wrong use of a command: one line that says what to write instead."""


def parse_value(text: str) -> Setting:
    """The literal that `text` spells (true, none, 3, 0.5, 'quoted'); any other text is itself."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        value = ast.literal_eval(text) if len(text) < 1000 else text
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    if isinstance(value, float) and not math.isfinite(value):
        raise CliError(f"{text!r} is not a finite number")
    return value if isinstance(value, int | float | str) else text


def parse_settings(items: Sequence[str]) -> dict[str, Setting]:
    """`["source=official", "max_steps=20"]` → `{"source": "official", "max_steps": 20}`.

    Raises:
        CliError: no `=`, a key that is not a (dotted) name, or a key given twice.
    """
    settings: dict[str, Setting] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not all(part.isidentifier() for part in key.split(".")):
            raise CliError(f"malformed setting {item!r}: write KEY=VALUE, as in max_steps=20")
        if key in settings:
            raise CliError(f"setting {key!r} is given twice: keep one of them")
        settings[key] = parse_value(value)
    return settings


def is_known_error(error: BaseException) -> bool:
    """Whether `error` is for the user's eyes: typed by this project, Gymnasium's, or the operating system's."""
    if isinstance(error, CliError | OSError):
        return True
    gym_error = getattr(sys.modules.get("gymnasium.error"), "Error", None)
    if gym_error is not None and isinstance(error, gym_error):
        return True
    return type(error).__module__.partition(".")[0] in _ROOMS


def describe(error: BaseException) -> str:
    """`error` as one line without control characters; of a package that an extra brings, how to get it."""
    return plain(" ".join((advice(error) or str(error)).split())) or type(error).__name__


def run_main(main: Callable[[], int | None]) -> NoReturn:
    """Run a command's body and exit with its code (None is 0).

    Known errors (`is_known_error`) and a missing extra (`ImportError`) print `error: …` and exit 2; any other exception
    is a bug and keeps its traceback; `AEM_TRACEBACK=1` shows it for all. Ctrl-C exits 130 without one.
    """
    if signal.getsignal(signal.SIGINT) is quiet_exit:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = main() or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # `aem-envs ls | head`: point stdout elsewhere, or the interpreter complains at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except Exception as error:
        if not (is_known_error(error) or isinstance(error, ImportError)):
            raise
        if os.environ.get("AEM_TRACEBACK"):
            traceback.print_exc()
        print(f"error: {describe(error)}", file=sys.stderr)
        code = 2
    raise SystemExit(code)
