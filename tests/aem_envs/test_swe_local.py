"""Local sandboxes: the ends of their parent, the opt-in to rlimits, the reaper, many at once."""

# ruff: noqa: F811  # fixtures are imported, then named as arguments

import io
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from swe_rooms import left, local, needs, small_repository, start  # noqa: F401

from aem_envs.core import BadOptionError
from aem_envs.swebench.sandbox import Limits, Room, SandboxError, SandboxMissingError, make_sandbox
from aem_envs.swebench.sandbox import local as local_module
from aem_envs.swebench.sandbox.local import UnsafeSandboxWarning
from aem_envs.swebench.sandbox.reap import FOLDER, MARKER, owner_alive, owner_mark, reap

LEVELS = ["bwrap", "userns", "rlimits"]

_PARENT = """
import os, sys, threading, time
from pathlib import Path
from aem_envs.swebench.sandbox import Room, make_sandbox
from aem_envs.swebench.sandbox.reap import owner_mark

folder, level, seconds, end = sys.argv[1:]
box = make_sandbox("local", Room(repository=Path(folder)), level=level, allow_unsafe=True)
box.start()
command = f"touch began; (setsid sleep {seconds} &); sleep {seconds}"
threading.Thread(target=box.run, args=(command,), kwargs={"timeout": 1000}, daemon=True).start()
forked = 0
if end == "fork":
    forked = os.fork()
    if forked == 0:
        time.sleep(600)
        os._exit(0)
print(owner_mark(), forked, flush=True)
sys.stdin.readline()
if end == "crash":
    os._exit(3)
if end == "exit":
    sys.exit(0)
time.sleep(60)
"""


def wait_for(condition, what):
    """Until the condition holds, a minute at most."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.05)


@pytest.mark.parametrize("end", ["exit", "crash", "interrupt", "kill", "fork"])
@pytest.mark.parametrize("level", LEVELS)
def test_nothing_is_left_when_the_parent_ends(level, end, small_repository):
    needs(level)
    seconds, forked = f"98{os.getpid()}.{LEVELS.index(level)}{len(end)}", 0
    call = [sys.executable, "-W", "ignore", "-c", _PARENT, str(small_repository), level, seconds, end]
    pipe = subprocess.PIPE
    with subprocess.Popen(call, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, start_new_session=True) as parent:
        try:
            mark, forked = parent.stdout.readline().decode().split()
            wait_for(lambda: len(left(f"sleep\0{seconds}")) >= 2, lambda: "its command did not start")
            assert left(mark)
            if end == "interrupt":
                os.killpg(parent.pid, signal.SIGINT)
            elif end in ("kill", "fork"):
                parent.kill()
            else:
                parent.stdin.write(b"\n")
                parent.stdin.flush()
            parent.wait(30)
            wait_for(lambda: not left(f"sleep\0{seconds}") + left(mark), lambda: left(seconds) + left(mark))
        finally:
            parent.kill()
            if int(forked):
                os.kill(int(forked), signal.SIGKILL)


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_is_left_after_close(level, small_repository):
    box = start(local(small_repository, level))
    marker = box._opened.marker
    box.run("(setsid sleep 1000 &); mkdir a; chmod 0 a", timeout=20)
    assert left(marker) or os.geteuid() != 0
    box.close()
    assert left(marker) == []
    assert list(Path(tempfile.gettempdir()).glob(f"{FOLDER}{owner_mark()}.*")) == []


@pytest.mark.parametrize("level", LEVELS)
def test_forgotten_ones_are_closed(level, small_repository):
    box = start(local(small_repository, level))
    marker = box._opened.marker
    del box
    assert left(marker) == []


def test_the_room_outlives_the_thread_that_opened_it(small_repository):
    box = local(small_repository, "bwrap")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(start, box).result()
    assert box.run("echo on", timeout=20).output == "on\n"
    box.close()


def test_rlimits_needs_to_be_allowed(small_repository, monkeypatch):
    room = Room(repository=small_repository)
    with pytest.raises(SandboxMissingError, match="allow_unsafe=True"):
        make_sandbox("local", room, level="rlimits").start()
    monkeypatch.setattr(local_module, "probe", lambda level: f"no {level} here")
    with pytest.raises(SandboxMissingError, match=r"apt-get install bubblewrap.*no bwrap here.*no userns here"):
        make_sandbox("local", room).start()
    box = make_sandbox("local", room, allow_unsafe=True)
    with pytest.warns(UnsafeSandboxWarning, match="WITHOUT ISOLATION"):
        box.start()
    assert box.isolation == "rlimits"
    box.close()
    with pytest.raises(BadOptionError, match="bwrap"):
        make_sandbox("local", room, level="magic")


def test_the_best_level_is_taken_without_a_warning(small_repository):
    needs("bwrap")
    box = make_sandbox("local", Room(repository=small_repository), allow_unsafe=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        box.start()
    assert (box.isolation, box.repository) == ("bwrap", "/testbed")
    box.close()


@pytest.mark.parametrize("level", LEVELS)
def test_rooms_show_folders_and_variables(level, small_repository, tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/tool").write_text("#!/bin/sh\ncat $(dirname $0)/../word\n")
    (tmp_path / "bin/tool").chmod(0o755)
    (tmp_path / "word").write_text("shown\n")
    box = local(small_repository, level, read_only={"/opt/aem": tmp_path}, env={"PLACE": "/opt/aem/word", "LANG": "C"})
    start(box)
    result = box.run("tool; cat $PLACE; echo $LANG; touch $PLACE", timeout=20)
    assert result.output.startswith("shown\nshown\nC\n")
    if level != "rlimits" or os.geteuid() == 0:
        assert result.exit_code != 0
    box.close()
    with pytest.raises(SandboxError, match="missing"):
        start(local(small_repository, level, read_only={"/opt/aem": tmp_path / "missing"}))
    with pytest.raises(SandboxError, match="missing"):
        start(local(tmp_path / "missing", level))


def test_files_of_the_repository_stay_as_they_are(small_repository):
    box = start(local(small_repository, "bwrap"))
    box.run("rm -rf * .git; echo x > README.md; rm -rf /run/aem/repository/*", timeout=20)
    box.close()
    assert (small_repository / "README.md").read_text() == "A repository for tests.\n"
    assert (small_repository / ".git").is_dir()


def test_a_snapshot_from_elsewhere_stays_in_the_room(small_repository, tmp_path):
    """A snapshot may come from a file that someone else wrote."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("../../tmp/out", "/usr/out", "good"):
            entry = tarfile.TarInfo(name)
            entry.mode = 0o4755
            archive.addfile(entry)
    box = start(local(small_repository, "bwrap"))
    with suppress(SandboxError):
        box.restore(buffer.getvalue())
    assert box.run("ls -d /tmp/out /usr/out /out 2>/dev/null", timeout=20).output == ""
    box.close()


def test_one_that_is_killed_from_outside_says_so(small_repository):
    box = start(local(small_repository, "bwrap"))
    runner = box._opened.runner
    threading.Timer(0.3, runner._kill).start()
    assert box.run("sleep 100", timeout=50).stopped == "died"
    with pytest.raises(SandboxError, match="start"):
        box.run("true", timeout=5)
    start(box)
    assert box.run("echo on", timeout=20).output == "on\n"
    box.close()


def test_the_reaper_takes_only_what_has_no_owner():
    code = "from aem_envs.swebench.sandbox.reap import owner_mark; print(owner_mark())"
    dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    alive = owner_mark()
    assert owner_alive(alive)
    assert not owner_alive(dead)
    pid, started, place = alive.split("-", 2)
    assert not owner_alive(f"{pid}-{int(started) + 1}-{place}"), "the pid is used again"
    assert owner_alive(f"{pid}-{int(started) + 1}-1-other"), "of another machine: nobody knows"
    assert not owner_alive("no mark")
    sleeper = ["sleep", "1000"]
    with (
        tempfile.TemporaryDirectory(prefix=f"{FOLDER}{alive}.") as kept,
        subprocess.Popen(sleeper, env={MARKER: f"{dead}:1"}) as one,
        subprocess.Popen(sleeper, env={MARKER: f"{alive}:1"}) as two,
    ):
        old = Path(tempfile.mkdtemp(prefix=f"{FOLDER}{dead}."))
        (old / "file").write_text("x")
        try:
            gone = reap()
            assert {f"process {one.pid}", f"folder {old}"} <= set(gone)
            assert one.wait(20) == -signal.SIGKILL
            assert two.poll() is None
            assert Path(kept).is_dir()
            assert not old.exists()
        finally:
            one.kill()
            two.kill()


_AS_USER = """
import os, shutil, subprocess, sys, tempfile
from pathlib import Path
from aem_envs.swebench.sandbox import Limits, Room, SandboxMissingError, layout, make_sandbox, runner

os.setgroups([]), os.setresgid(65534, 65534, 65534), os.setresuid(65534, 65534, 65534)
runner.Python.executable = property(lambda self: "/usr/bin/python3")
runner.Python.prefix = property(lambda self: "/usr")
runner.Python.__init__ = lambda self: None
folder = Path(tempfile.mkdtemp())
try:
    (folder / "file").write_text("old")
    git = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@localhost"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], check=True)
    box = make_sandbox("local", Room(repository=folder), Limits(pids=64), level=sys.argv[1])
    try:
        box.start()
    except SandboxMissingError as error:
        print("missing", error)
        sys.exit()
    print(box.run("id -u; kill -9 $PPID 1 -1; unshare -Ur true; echo $?; echo new > file", timeout=20).output)
    print(box.run(":(){ :|:& };: ; sleep 100 & sleep 100", timeout=1).stopped)
    print(box.run("cat /proc/1/environ || touch /x /usr/x /etc/x || echo shut", timeout=20).output)
    print(box.diff().decode())
    box.restore(box.snapshot())
    box.put("made", b"1")
    print(box.get("made"))
    box.close()
finally:
    shutil.rmtree(folder)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
@pytest.mark.parametrize("level", ["bwrap", "userns"])
def test_without_root(level):
    """A user namespace in place of root's rights, in a process that is another user."""
    new = "import sys; sys.exit(sys.version_info < (3, 11))"
    if subprocess.run(["/usr/bin/python3", "-I", "-c", new], check=False, capture_output=True).returncode:
        pytest.skip("no Python >= 3.11 in /usr/bin, where other users can reach it")
    call = [sys.executable, "-c", _AS_USER, level]
    done = subprocess.run(call, capture_output=True, text=True, check=True, timeout=300)
    if done.stdout.startswith("missing"):
        pytest.skip(f"not for other users on this machine: {done.stdout}")
    assert done.stdout.startswith("65534\n")
    for part in ("\ntimeout\n", "shut\n", "-old\n", "+new\n", "b'1'\n", "Operation not permitted\n1\n"):
        assert part in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_64_at_once(level, small_repository):
    needs(level)

    def episode(number):
        box = start(local(small_repository, level, Limits(pids=32)))
        try:
            for turn in range(10):
                result = box.run(f"echo {number} >> log; wc -l < log; (sleep 100 &)", timeout=120)
                assert (result.output, result.exit_code) == (f"{turn + 1}\n", 0)
            box.put("numbers.txt", str(number).encode())
            return box.diff()
        finally:
            box.close()

    with ThreadPoolExecutor(64) as pool:
        patches = list(pool.map(episode, range(64)))
    for number, patch in enumerate(patches):
        assert f"\n+{number}\n".encode() in patch
    assert left(owner_mark()) == []
