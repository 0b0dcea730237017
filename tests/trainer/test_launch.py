"""Settings of several processes, who was started by whom, and the launcher."""

import os
import signal
import socket
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from helpers import quick

from trainer import launch
from trainer.config import ConfigError
from trainer.overrides import override
from trainer.started import Started, started, to_launch
from trainer.stopping import SAID
from trainer.world import ALONE, ProcessError, opened


def test_settings_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"scale\.shard=true"):
        quick("scale.precision=bfloat16")
    two = quick("scale.processes=2")
    for setting in ("rollout.dynamic=true", "rollout.oversample=2 rollout.early_stop=true"):
        with pytest.raises(ConfigError, match=r"scale\.rollouts=first"):
            override(two, setting.split())
        override(two, ["scale.rollouts=first", *setting.split()])


TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def environment(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name in (*TORCHRUN, "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_who_was_started_as_one_of_several_starts_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, {})
    assert started() == Started() and to_launch(2) and not to_launch(1)
    environment(monkeypatch, TORCHRUN)
    assert started() == Started(1, 2, address="127.0.0.1:29500")
    assert not to_launch(2) and not to_launch(1)
    with pytest.raises(ConfigError, match=r"scale\.processes=3, but 2 processes were started"):
        to_launch(3)
    assert not to_launch(3, None), "as many as began the run, which another number may continue"


@pytest.mark.parametrize("stray", [{"WORLD_SIZE": "1"}, {"RANK": "1"}, {**TORCHRUN, "WORLD_SIZE": "1"}, {"RANK": "x"}])
def test_what_another_program_left_in_the_environment_of_one_process_is_nothing(
    stray: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(monkeypatch, stray)
    assert started() == Started() and to_launch(2)
    with opened("cpu", group=True) as world:
        assert world == ALONE


@pytest.mark.parametrize(
    ("half", "words"),
    [
        ({"WORLD_SIZE": "2"}, "RANK, MASTER_ADDR, MASTER_PORT are not set: unset WORLD_SIZE"),
        ({name: TORCHRUN[name] for name in ("RANK", "WORLD_SIZE", "MASTER_PORT")}, "MASTER_ADDR is not set"),
        ({"WORLD_SIZE": "x"}, "WORLD_SIZE=x in the environment"),
        ({**TORCHRUN, "RANK": "2"}, "RANK=2 is none of 2 processes"),
    ],
)
def test_an_environment_that_is_set_by_halves_is_refused(
    half: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(monkeypatch, half)
    with pytest.raises(ConfigError, match=words):
        to_launch(1)
    with pytest.raises(ConfigError, match=words), opened("cpu", group=False):
        pass


def test_who_waits_for_others_says_so_and_gives_up(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environment(monkeypatch, {**TORCHRUN, "RANK": "0", "MASTER_PORT": port})
    monkeypatch.setattr("trainer.world.PATIENCE", 0.1)
    rendezvous = torch.distributed.rendezvous
    short = partial(rendezvous, timeout=timedelta(seconds=1))
    monkeypatch.setattr(torch.distributed, "rendezvous", short)
    where = f"1 other process at 127.0.0.1:{port}"
    with pytest.raises(ProcessError, match=f"found no {where}.*unset WORLD_SIZE"), opened("cpu", group=False):
        pass
    assert capfd.readouterr().err.splitlines()[0].startswith(f"waiting for {where}")


def fake_trainer(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the launcher starts, instead of `aem-train`."""
    package = folder / "packages" / "trainer"
    package.mkdir(parents=True)
    (package / "cli.py").write_text(f"import os, signal, sys, time\nrank = os.environ['RANK']\ndef main():\n{code}")
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(package.parent), *sys.path])


needs_posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")


@needs_posix
def test_the_launcher_gives_ranks_and_ends_all_when_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fake_trainer(
        tmp_path,
        "    print(rank, os.environ['WORLD_SIZE'], sys.argv[1:], flush=True)\n"
        "    time.sleep(0.3)\n"
        "    sys.exit(3) if rank == '1' else time.sleep(100)\n",
        monkeypatch,
    )
    (tmp_path / "trainer.py").write_text("raise SystemExit('a file of the user')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "GRACE", 0.2)
    assert launch.launch(3, ["a", "b"]) == 3
    said = capfd.readouterr()
    assert sorted(said.out.splitlines()) == [f"{rank} 3 ['a', 'b']" for rank in range(3)]
    assert not said.err


@needs_posix
def test_the_second_ctrl_c_ends_all_at_once_whatever_they_wait_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first process waits in native code, where no handler of Python's runs; the second has sent both."""
    fake_trainer(
        tmp_path,
        "    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
        "    signal.signal(signal.SIGINT, lambda *_: None)\n"
        "    time.sleep(0.5)\n"
        "    for _ in range(2 * int(rank)):\n"
        "        os.kill(os.getppid(), signal.SIGINT)\n"
        "        time.sleep(0.2)\n"
        "    time.sleep(20)\n",
        monkeypatch,
    )
    with pytest.raises(KeyboardInterrupt):
        launch.launch(2, [])
    assert capfd.readouterr().err.encode() == SAID


@needs_posix
def test_the_launcher_leaves_ignored_what_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under nohup."""
    fake_trainer(tmp_path, "    os.kill(os.getppid(), signal.SIGHUP)\n    time.sleep(0.2)\n", monkeypatch)
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert launch.launch(1, []) == 0
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with pytest.raises(SystemExit) as ended:
            launch.launch(1, [])
        assert ended.value.code == 128 + signal.SIGHUP
    finally:
        signal.signal(signal.SIGHUP, previous)
