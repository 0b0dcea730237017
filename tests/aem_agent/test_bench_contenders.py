"""Contenders of the rollout benchmark: those that cannot play are left out, those that break are said to be broken."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def bench_modules(monkeypatch):
    """The folder of the benchmarks can be imported from."""
    monkeypatch.syspath_prepend(str(BENCH))


def test_peer_that_is_not_installed_is_left_out(bench_modules):
    from _rounds import Contender, ContenderFailed

    with pytest.raises(ContenderFailed, match=r"not installed: .*gem"):
        Contender("_rollout_peers.py", ("gem-sync", 2, 3))


def test_peer_that_cannot_be_installed_is_left_out(bench_modules, tmp_path, monkeypatch):
    from _rounds import ContenderFailed
    from rollout import installed

    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ContenderFailed, match=r"cannot be installed: .*gem-llm"):
        installed("gem-llm==0.1.0", tmp_path)


def test_contender_that_breaks_says_why(bench_modules):
    from _rounds import Contender, ContenderFailed

    with pytest.raises(ContenderFailed, match="invalid literal"):
        Contender("_rollout_ours.py", ("bare", "many", 3))


BROKEN = """
import _players, sys
step = _players.TrivialEnv.step
def breaks(env, action):
    if env.n == 1:
        raise ValueError("no second step")
    return step(env, action)
_players.TrivialEnv.step = breaks
import _rollout_ours
_rollout_ours.main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
"""


@pytest.mark.parametrize("name", ["inline", "inline+suspends", "gym-sync"])
def test_contender_whose_environment_breaks_is_broken(bench_modules, tmp_path, name):
    """The manager notes an episode's error and goes on; the benchmark must not take that for speed."""
    from _rounds import Contender, ContenderFailed, ContenderRefused

    (tmp_path / "broken.py").write_text(BROKEN)
    with pytest.raises(ContenderFailed, match="no second step") as raised:
        contender = Contender(str(tmp_path / "broken.py"), (name, 2, 5))
        try:
            contender.round()
        finally:
            contender.end()
    assert not isinstance(raised.value, ContenderRefused)
    assert "Traceback" in raised.value.__notes__[0]


def test_a_contender_that_does_not_end_well_is_broken(bench_modules, tmp_path):
    from _rounds import Contender, ContenderFailed

    def contender(close: str) -> Contender:
        (tmp_path / "c.py").write_text(f"from _rounds import serve\nserve(lambda: None, '', lambda: {close})\n")
        return Contender(str(tmp_path / "c.py"), ())

    well = contender("None")
    well.round()
    well.close()
    well.close()
    badly = contender("1 / 0")
    badly.round()
    with pytest.raises(ContenderFailed, match="division by zero"):
        badly.close()
    badly.end()


@pytest.mark.parametrize(
    "name, row, status",
    [("inline", "manager, in-process", 1), ("gym-sync", "Gymnasium SyncVectorEnv", 1), ("", "", None)],
)
def test_rollout_goes_on_without_a_broken_contender(bench_modules, tmp_path, monkeypatch, capsys, name, row, status):
    """The others are measured; the table says so, and the status."""
    import rollout

    (tmp_path / "broken.py").write_text(BROKEN)
    rows = [r._replace(script=str(tmp_path / "broken.py")) if r.name == name else r for r in rollout.ROWS]
    monkeypatch.setattr(rollout, "ROWS", rows)
    out = tmp_path / "r.json"
    sizes = "--episodes 2 --steps 3 --rounds 1 --only inline --out"
    monkeypatch.setattr(sys, "argv", ["rollout.py", *sizes.split(), str(out)])
    ended = rollout.main()
    said, found = capsys.readouterr().out, json.loads(out.read_text())
    assert list(found["broken"]) == ([row] if row else [])
    assert found["rows"].keys() == {"environments alone", "manager, in-process", "Gymnasium SyncVectorEnv"} - {row}
    if status is None:
        assert ended == ("MISSED" in said) and "BROKEN" not in said
    else:
        assert ended == status
        assert any("BROKEN: " in line and "no second step" in line for line in said.splitlines())


def test_contenders_end_with_the_benchmark(bench_modules):
    """Also when it is killed: their stdin ends."""
    program = (
        "import os, signal\nfrom _rounds import Contender\n"
        "contender = Contender('_rollout_ours.py', ('bare', 2, 3))\ncontender.round()\n"
        "print(contender._process.pid, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(BENCH)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    contender = int(done.stdout)
    for _ in range(200):
        if not _runs(contender):
            return
        time.sleep(0.05)
    pytest.fail("the contender lives on")


def _runs(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
