"""The docker sandbox beside what all sandboxes promise: settings, ends of life, hostile commands."""

import gc
import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
from swe_docker import box, containers, docker_base, docker_room, soon  # noqa: F401  # fixtures

from aem_envs.swebench.sandbox import Limits, Room, SandboxError, SandboxMissingError, make_sandbox
from aem_envs.swebench.sandbox.docker import DockerSandbox
from aem_envs.swebench.sandbox.docker_exec import client
from aem_envs.swebench.sandbox.docker_reap import LABEL, OWNER, reap_containers
from aem_envs.swebench.sandbox.reap import owner_mark

HOLDER = """
import sys, time
from aem_envs.swebench.sandbox import Room
from aem_envs.swebench.sandbox.docker import DockerSandbox
from aem_envs.swebench.sandbox.reap import owner_mark
box = DockerSandbox(Room(image=sys.argv[1]))
box.start()
box.run("(setsid sleep 1000 &)", timeout=10)
print(owner_mark(), flush=True)
if sys.argv[2] == "crash":
    raise SystemError("crash")
box.run("sleep 1000", timeout=1000)
"""


def test_the_container_is_closed_in(docker_room):  # noqa: F811
    with_limits = DockerSandbox(docker_room, Limits(memory_mb=300, cpus=0.5, pids=77, disk_mb=100))
    with_limits.start()
    try:
        found = client().inspect_container(with_limits._container.id)
    finally:
        with_limits.close()
    host, config = found["HostConfig"], found["Config"]
    assert host["NetworkMode"] == "none" and host["CapDrop"] == ["ALL"] and not host["CapAdd"]
    assert not host["Privileged"] and "no-new-privileges" in host["SecurityOpt"] and host["Init"] and host["AutoRemove"]
    assert host["Memory"] == host["MemorySwap"] == 300 << 20 and host["NanoCpus"] == 500_000_000
    assert host["PidsLimit"] == 77 and host["LogConfig"]["Type"] == "none"
    assert not host["Binds"] and not host["Devices"] and found["Mounts"] == []
    assert {limit["Name"]: limit["Hard"] for limit in host["Ulimits"]} == {
        "core": 0,
        "nofile": 4096,
        "fsize": 100 << 20,
    }
    assert config["StdinOnce"] and config["OpenStdin"]
    assert config["Labels"][LABEL] == "sandbox" and config["Labels"][OWNER] == owner_mark()


def test_commands_are_the_agents_and_see_nothing_of_ours(box, monkeypatch):  # noqa: F811
    monkeypatch.setenv("AEM_SECRET", "secret")
    said = box.run("id -un; pwd; env; echo $HOME; cat /proc/1/environ", timeout=10).output
    assert said.startswith("agent\n/testbed\n") and "AEM_SECRET" not in said and "HOME=/home/agent" in said
    assert box.isolation == "docker"
    assert (
        box.run("cat /proc/net/dev | grep -v lo: | grep -c :; touch /etc/x /opt/aem/git/x", timeout=10).exit_code == 1
    )
    assert "CapEff:\t0000000000000000" in box.run("cat /proc/self/status", timeout=10).output


@pytest.mark.parametrize("user", ["root", "0:0"])
def test_root_only_if_asked_for_and_said_so(docker_room, user):  # noqa: F811
    root = make_sandbox("docker", docker_room, user=user)
    root.start()
    try:
        assert root.isolation == "docker/root"
        assert root.run("(setsid sleep 1000 &) ; id -u", timeout=10).output == "0\n"
        assert "sleep" not in root.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '", timeout=10).output.replace(
            "cat /proc", ""
        )
        assert root.run("cat /proc/self/status | grep CapEff", timeout=10).output.endswith("0000000000000000\n")
    finally:
        root.close()


@pytest.mark.parametrize("how", ["kill", "interrupt", "terminate", "crash"])
def test_nothing_is_left_when_the_process_goes(docker_room, how):  # noqa: F811
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, docker_room.image, how],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    mark = holder.stdout.readline().strip()
    assert mark
    if how != "crash":
        soon(lambda: containers(mark))
        holder.send_signal({"kill": signal.SIGKILL, "interrupt": signal.SIGINT, "terminate": signal.SIGTERM}[how])
    holder.wait(30)
    holder.stdout.close()
    soon(lambda: not containers(mark))


def test_close_removes_the_container_and_may_be_repeated(docker_room):  # noqa: F811
    sandbox = DockerSandbox(docker_room)
    sandbox.close()
    sandbox.start()
    number = sandbox._container.id
    assert number in containers(owner_mark())
    sandbox.close()
    sandbox.close()
    assert number not in containers()
    with pytest.raises(SandboxError, match="start"):
        sandbox.run("true", timeout=1)
    sandbox.start()
    assert sandbox.run("true", timeout=10).exit_code == 0
    sandbox.close()


def test_a_sandbox_that_is_forgotten_goes(docker_room):  # noqa: F811
    sandbox = DockerSandbox(docker_room)
    sandbox.start()
    number = sandbox._container.id
    del sandbox
    soon(lambda: number not in containers())


def test_the_reaper_takes_what_belongs_to_the_dead_only(docker_room, box):  # noqa: F811
    import docker

    pid, _, rest = owner_mark().partition("-")
    started, _, place = rest.partition("-")
    dead = f"{pid}-{int(started) + 1}-{place}"
    api = client()
    made = [
        api.create_container(docker_room.image, ["sleep", "1000"], labels={LABEL: "sandbox", OWNER: mark})["Id"]
        for mark in (dead, f"{pid}-{started}-elsewhere")
    ]
    try:
        reap_containers()  # or a process of a neighbouring test was first
        soon(lambda: made[0] not in containers())
        assert made[1] in containers() and box._container.id in containers()
    finally:
        for number in made:
            with suppress(docker.errors.APIError):
                api.remove_container(number, force=True)


def test_killing_the_wrapper_leaves_no_process(box):  # noqa: F811
    for command in ("(setsid sleep 1111 &) ; kill -9 $PPID; sleep 1", "(setsid sleep 1111 &) ; sleep 0.2; kill -9 -1"):
        assert box.run(command, timeout=10).exit_code == 137
        assert "1111" not in box.run("cat /proc/[0-9]*/cmdline", timeout=10).output.replace("sleep 1111 &", "")
    stopped = box.run("(setsid sleep 1111 &) ; kill -STOP $PPID; sleep 1000", timeout=0.5)
    assert stopped.stopped == "timeout" and stopped.exit_code is None
    assert box.run("echo on", timeout=10).output == "on\n"


def test_a_fork_bomb_without_the_wrapper_ends_the_sandbox_or_itself(docker_room):  # noqa: F811
    sandbox = DockerSandbox(docker_room, Limits(pids=40))
    sandbox.start()
    number = sandbox._container.id
    found = sandbox.run("kill -9 $PPID; f() { f | f & }; f; sleep 100", timeout=1)
    if found.stopped == "died":
        assert number not in containers()
        with pytest.raises(SandboxError, match="does not run"):
            sandbox.run("true", timeout=1)
    else:
        assert sandbox.run("echo on", timeout=10).output == "on\n"
    sandbox.close()


def test_memory_and_time_are_told_apart(docker_room):  # noqa: F811
    sandbox = DockerSandbox(docker_room, Limits(memory_mb=128))
    sandbox.start()
    try:
        assert sandbox.run("python3 -c 'bytearray(10**9)'", timeout=20).stopped == "memory"
        assert sandbox.run("exit 137", timeout=20).exit_code == 137
        assert sandbox.run("exit 124", timeout=20).exit_code == 124
        assert sandbox.run("sleep 20", timeout=0.3).stopped == "timeout"
        assert sandbox.run("trap '' TERM; sleep 20", timeout=0.3).stopped == "timeout"
    finally:
        sandbox.close()


def test_a_full_disk_ends_the_sandbox_while_the_command_runs(docker_room):  # noqa: F811
    sandbox = DockerSandbox(docker_room, Limits(disk_mb=20))
    sandbox.start()
    one = sandbox.run("head -c 30M /dev/zero >x; ls -s x; rm x; head -c 30M /dev/zero >/tmp/x", timeout=20)
    assert one.stopped is None and "20480 x" in one.output
    found = sandbox.run("for i in $(seq 1000); do head -c 5M /dev/zero >x$i; sleep 0.1; done", timeout=60)
    assert found.stopped == "died" and found.seconds < 30
    with pytest.raises(SandboxError, match="more was written"):
        sandbox.run("true", timeout=1)


def test_a_container_that_is_removed_by_others(box):  # noqa: F811
    client().remove_container(box._container.id, force=True)
    with pytest.raises(SandboxError):
        box.run("true", timeout=1)
    with pytest.raises(SandboxError):
        box.diff()
    box.close()


def test_a_patch_holds_what_the_agent_hides(box):  # noqa: F811
    box.run(
        "git init -q sub; echo in >sub/f.py; echo '*.py binary filter=x' >.gitattributes; echo more >>pkg/numbers.py;"
        "chmod 000 pkg/numbers.py; git config diff.noprefix true; git config core.excludesFile /testbed/pkg;"
        "git commit -qam hidden; rm -rf .git/objects; echo x >k.log; echo x >'git~1'",
        timeout=10,
    )
    patch = box.diff().decode()
    assert "+++ b/sub/f.py" in patch and "+more" in patch and "+++ b/git~1" in patch
    assert "k.log" not in patch and "Subproject" not in patch
    assert box.run("ls -d sub/.git", timeout=10).exit_code == 0


def test_put_follows_no_link_out_of_the_repository(box):  # noqa: F811
    box.run("ln -s /tmp out; ln -s ~/x file", timeout=10)
    with pytest.raises(SandboxError, match="link"):
        box.put("out/x", b"x")
    box.put("file", b"here")
    assert box.get("file") == b"here" and box.run("ls ~/x", timeout=10).exit_code != 0
    box.put("/tmp/a/b", bytes(range(256)) * 9000)
    assert box.get("/tmp/a/b") == bytes(range(256)) * 9000


def test_an_image_that_is_not_there(docker_base):  # noqa: F811
    with pytest.raises(SandboxMissingError, match="docker pull"):
        DockerSandbox(Room(image="aem-swe:no-such-image")).start()
    with pytest.raises(SandboxMissingError, match="image"):
        DockerSandbox(Room())


def test_no_daemon(monkeypatch):
    pytest.importorskip("docker", reason="the docker SDK is not installed")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(SandboxMissingError, match=r"not reachable at unix:///nowhere/docker.sock.*DOCKER_HOST"):
        DockerSandbox(Room(image="any")).start()


def test_a_forked_process_leaves_its_parents_sandbox_alone(box):  # noqa: F811
    ours = client()
    pid = os.fork()
    if pid == 0:
        fine = client() is not ours and client().ping()
        box._container.close()
        box._container = None
        gc.collect()
        os._exit(0 if fine else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert client() is ours
    assert box.run("echo on", timeout=10).output == "on\n"
