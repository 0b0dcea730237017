"""Hostile commands in every kind of sandbox that runs any: each is contained, and the room goes on."""

# ruff: noqa: F811  # fixtures are imported, then named as arguments

import os
import socket
import time
from contextlib import suppress

import pytest
from swe_rooms import box, kind, opened, small_repository, walled  # noqa: F401

from aem_envs.swebench.sandbox import SandboxError

with suppress(ImportError):
    from swe_docker import docker_base, docker_room  # noqa: F401


def goes_on(kind, box):
    """The room still works; docker may have lost its container, if it says so."""
    if kind == "docker":
        try:
            again = box.run("echo on", timeout=20)
        except SandboxError:
            return
        if again.stopped == "died":
            return
    else:
        again = box.run("echo on", timeout=20)
    assert (again.output, again.exit_code, again.stopped) == ("on\n", 0, None)


def test_time_limit(kind, box):
    result = box.run("echo first; trap '' TERM INT HUP; sleep 1000 & while :; do sleep 1; done", timeout=1)
    assert (result.exit_code, result.stopped, result.output) == (None, "timeout", "first\n")
    assert result.seconds < 10
    goes_on(kind, box)


def test_fork_bomb(kind, opened):
    walled(kind)
    box = opened(kind, pids=64)
    box.run(":(){ :|:& };: ; sleep 1", timeout=3)
    box.run("python3 -c 'import os\nwhile True:\n try: os.fork()\n except OSError: pass'", timeout=2)
    goes_on(kind, box)
    if kind != "docker":  # whose init and own commands are there, too
        me = box.run("id -u", timeout=20).output.strip()
        alone = box.run(f'cat /proc/[0-9]*/status 2>/dev/null | grep -c "^Uid:\\s{me}\\s"', timeout=20)
        assert int(alone.output) <= 3, "bash, cat, grep"


_DAEMONS = """
(setsid sleep 4321 &); setsid nohup bash -c 'sleep 4321 & sleep 4321' >/dev/null 2>&1 &
python3 -c 'import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", "4321"])'
echo started
"""


def test_daemons_end_with_their_command(kind, box):
    walled(kind)
    begun = time.monotonic()
    assert box.run(_DAEMONS, timeout=60).output == "started\n"
    assert time.monotonic() - begun < 30, "whoever holds the output open is not waited for"
    seen = box.run("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'sleep 43[2]1'", timeout=20)
    assert seen.output == "0\n"


def test_full_disk(kind, opened):
    box = opened(kind, disk_mb=32)
    box.run("head -c 100M /dev/zero > big; head -c 100M /dev/zero > ${TMPDIR:-/tmp}/big", timeout=30)
    if kind != "docker":  # which cannot bound it everywhere
        sizes = box.run('stat -c %s big "${TMPDIR:-/tmp}"/big; true', timeout=20).output.split()
        assert all(int(size) <= 32 << 20 for size in sizes)
    assert box.run("echo more > more || rm big && echo more > more && cat more", timeout=20).output.endswith("more\n")
    assert b"+more\n" in box.diff()


def test_full_disk_can_still_be_diffed(kind, opened):
    if kind in ("docker", "local/rlimits"):
        pytest.skip("its disk is the machine's")
    box = opened(kind, disk_mb=32)
    box.run("echo changed > README.md; mkdir big; cp /dev/zero big/a.log; cp /dev/zero /tmp/b", timeout=30)
    assert box.run("echo x > new", timeout=20).exit_code == 1
    assert b"+changed\n" in box.diff()


def test_a_gigabyte_of_output(kind, opened):
    box = opened(kind, output_bytes=1_000_000)
    result = box.run("yes | head -c 1G", timeout=60)
    assert (result.exit_code, result.stopped) == (None, "output")
    assert result.output.startswith("y\ny\n")
    assert len(result.output) <= 1_000_000
    box.run("head -c 3M /dev/urandom | base64 > large.txt", timeout=20)
    with pytest.raises(SandboxError):
        box.diff()
    goes_on(kind, box)


def test_memory(kind, opened):
    box = opened(kind, memory_mb=128)
    one = box.run("exec python3 -c 'x = b\"x\" * (300 << 20)'", timeout=30)
    assert one.stopped == "memory" or one.exit_code
    hold = "python3 -c \"import time; x = bytearray(b'x' * (30 << 20)); time.sleep(20)\""
    many = box.run(f"for i in 1 2 3 4 5 6 7 8; do {hold} & done; wait; exit 9", timeout=30)
    assert many.seconds < 15 or kind == "docker"
    if kind != "docker":
        assert many.stopped == "memory"
    goes_on(kind, box)


def test_killing_everything(kind, box):
    walled(kind)
    result = box.run("kill -9 $PPID; kill -9 1; echo alive; kill -9 -1", timeout=20)
    if kind != "docker":
        assert result.output.endswith("alive\n") or "alive" in result.output
        assert result.stopped is None
    goes_on(kind, box)


def test_files_of_the_machine_are_out_of_reach(kind, box, tmp_path):
    walled(kind)
    (tmp_path / "secret").write_text("s3cret")
    os.chmod(tmp_path, 0o700)
    result = box.run(f"cat {tmp_path}/secret /etc/shadow ~root/.bashrc ~root/.profile; ls /home/*", timeout=20)
    assert "s3cret" not in result.output
    assert "root:" not in result.output.replace("root: ", "")
    for path in ("/usr", "/bin", "/etc", "/", "/proc/sys/kernel", "/lib"):
        assert box.run(f"touch {path}/aem-test", timeout=20).exit_code != 0
    assert box.run("echo x > /proc/sys/kernel/core_pattern", timeout=20).exit_code != 0
    assert box.run("mkdir m; mount -t tmpfs none m || unshare -Urm mount -t tmpfs none m", timeout=20).exit_code != 0
    rights = box.run("grep -E 'CapEff|CapPrm|NoNewPrivs' /proc/self/status; id -u", timeout=20).output.split()
    assert rights[:6] == ["CapPrm:", "0" * 16, "CapEff:", "0" * 16, "NoNewPrivs:", "1"]
    assert kind == "docker" or rights[6] != "0"


def test_other_rooms_are_out_of_reach(kind, opened):
    walled(kind)
    one, two = opened(kind), opened(kind)
    one.run('echo s3cret > secret; echo s3cret > "${TMPDIR:-/tmp}"/secret', timeout=20)
    looked = f"cat {one.repository}/secret {one.repository}/../tmp/secret /tmp/secret; ls -R /tmp/aem-swe-*"
    assert "s3cret" not in two.run(looked, timeout=20).output
    assert one.run("cat secret", timeout=20).output == "s3cret\n"


def test_no_network(kind, box):
    if kind == "local/rlimits":
        pytest.skip("rlimits does not shut the network out")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 3); print('in')"
        result = box.run(f'python3 -c "{code}"; cat /proc/net/route | wc -l', timeout=20)
    assert "in\n" not in result.output.splitlines(keepends=True)
    assert "refused" in result.output or "unreachable" in result.output
    assert box.run("python3 -m http.server 8000 & sleep 0.1; exit 0", timeout=20).exit_code == 0


_SOCKETS = """
import os, socket
for _ in range(20):
    if os.fork() == 0:
        keep = []
        for _ in range(400):
            keep += socket.socketpair()
        os.read(0, 1) or __import__("time").sleep(60)
__import__("time").sleep(60)
"""


@pytest.mark.parametrize("level", ["bwrap", "userns"])
def test_memory_that_the_kernel_holds_for_sockets_counts(level, opened):
    box = opened(f"local/{level}", memory_mb=512)
    box.put("sockets.py", _SOCKETS.encode())
    assert box.run("python3 sockets.py", timeout=50).stopped == "memory"
    goes_on(level, box)


_FAMILIES = """
import socket
for family in range(64):
    try:
        socket.socket(family, socket.SOCK_STREAM if family != 16 else socket.SOCK_RAW).close()
        print(family, end=" ")
    except OSError:
        pass
"""


@pytest.mark.parametrize("level", ["bwrap", "userns", "rlimits"])
def test_sockets_reach_nothing_that_namespaces_do_not_part(level, opened):
    """A virtual machine's AF_VSOCK leads to its host from every network namespace."""
    box = opened(f"local/{level}")
    box.put("families.py", _FAMILIES.encode())
    found = box.run("python3 families.py; prlimit --pid 1 --nofile=5:5; echo; prlimit --nofile", timeout=20).output
    assert set(map(int, found.splitlines()[0].split()[:1])) == {1}
    assert {int(word) for word in found.partition("prlimit")[0].split()} <= {1, 2, 10, 16}
    assert "not permitted" in found and "1024" in found, "one's own limits can be read"
