"""The four commands from their first moment: `--help` loads nothing but the standard library, Ctrl-C is quiet."""

import os
import resource
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def python(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("option", ["--help", "--version"])
@pytest.mark.parametrize("command", SCRIPTS)
def test_help_answers_within_the_limit_and_loads_little(command: str, option: str) -> None:
    module, _, function = SCRIPTS[command].partition(":")
    code = (
        f"import sys, atexit\nfrom {module} import {function} as main\n"
        "rooms = {'gymnasium', 'numpy', 'rich', 'torch', 'aem_envs', 'aem_agent.types', 'trainer.config'}\n"
        "atexit.register(lambda: print('loaded:', *sorted(rooms & sys.modules.keys())))\nmain()"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = python(code, option)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = f"usage: {command}" if option == "--help" else "aem-suite "
    assert done.returncode == 0 and done.stdout.startswith(said), done.stderr
    assert done.stdout.endswith("loaded:\n")
    # processor time: on a busy machine the clock says nothing
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


def test_ctrl_c_while_modules_load_is_quiet_and_an_interrupt_later() -> None:
    interrupt = "import os, signal; from aem_suite import commands; commands._quiet_start()\n"
    kill = "os.kill(os.getpid(), signal.SIGINT)"
    early = python(f"{interrupt}{kill}")
    assert (early.returncode, early.stderr) == (130, "")
    late = python(f"{interrupt}from aem_envs.cli_common import run_main; run_main(lambda: {kill})")
    assert (late.returncode, late.stderr) == (130, "\ninterrupted\n")
    ignored = python(f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{interrupt}{kill}\nprint('on')")
    assert (ignored.returncode, ignored.stdout) == (0, "on\n"), "as under nohup"
