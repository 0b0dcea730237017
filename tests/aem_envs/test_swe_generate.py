"""Generation of embedded tasks, on a made-up package with a plain runner: reproducible, resumable, and choosy."""

import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest
from swe_rooms import needs_any

from aem_envs.swebench import probe
from aem_envs.swebench.generate import GenerationError, generate
from aem_envs.swebench.trials import Ran, in_sandbox, run_suite, statuses
from envs_data.errors import DataError
from envs_data.swebench.evalscript import END, START
from envs_data.swebench.packages import PACKAGES, Package, environment
from envs_data.swebench.repository import commit_folder, reverse

pytest.importorskip("swebench.harness.log_parsers", reason="swebench is not installed")
pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

CODE = '''"""Small sums."""

LIMIT = 10


def clip(x, low=0, high=10):
    """Between low and high; 1 < 2."""
    if x < low:
        return low
    return min(x, high)


def unused(x):
    return x + 1


def _total(numbers):
    total = 0
    for number in numbers:
        total += number
    return total


def mean(numbers):
    if not numbers:
        raise ValueError("no numbers")
    return _total(numbers) / len(numbers)
'''
TESTS = """import pytest
from small import clip, mean


@pytest.mark.parametrize("x", [1, 5, "a b", "a c"])
def test_same(x):
    assert isinstance(x, str) or clip(x) == x


def test_ends():
    assert clip(-1) == 0
    assert clip(11) == 10


def test_mean():
    assert mean([1, 2, 3]) == 2


def test_none():
    with pytest.raises(ValueError):
        mean([])


def test_broken():
    assert clip(1) == 2
"""


def small(cache: Path, code: str = CODE) -> Package:
    """The package, with its archive in the cache."""
    path = cache / "sdists" / "small-1.0.tar.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(path, "wb", mtime=0) as file, tarfile.open(fileobj=file, mode="w") as tar:
        for name, text in {"small.py": code, "tests/test_small.py": TESTS, "setup.cfg": "[x]\n"}.items():
            info = tarfile.TarInfo(f"small-1.0/{name}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Package("small", "1.0", digest, "MIT", (), ("small.py",), ("tests",), "setup.cfg")


class Plain:
    """Runs scripts without any sandbox: the package is ours."""

    def __init__(self, work: Path) -> None:
        self.calls = 0
        self.bin = work / "bin"
        self.bin.mkdir(parents=True)
        (self.bin / "pytest").write_text(f'#!/bin/sh\nexec {sys.executable} -P -m pytest "$@"\n')
        (self.bin / "pytest").chmod(0o755)

    def __call__(self, package: Package, repository: Path, script: str, file: str | None) -> Ran:
        self.calls += 1
        with tempfile.TemporaryDirectory() as work:
            testbed = Path(work) / "testbed"
            shutil.copytree(repository, testbed)
            env = {name: value.replace("/testbed", str(testbed)) for name, value in environment(package).items()}
            env |= {"AEM_PROBE_FOLDER": str(Path(probe.__file__).parent), "PATH": f"{self.bin}:{os.environ['PATH']}"}
            command = ["bash", "-c", script.replace("/testbed", str(testbed))]
            pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            process = subprocess.Popen(command, cwd=testbed, env=env, start_new_session=True, text=True, **pipes)  # type: ignore[call-overload]
            try:
                output = process.communicate(timeout=60)[0]
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return Ran("", True)
            found = testbed / file if file else None
            return Ran(output, False, found.read_bytes() if found and found.exists() else None)


def made(cache: Path, run: Plain, *, code: str = CODE, workers: int = 2, wanted: int = 5, seed: int = 1) -> str:
    package = small(cache, code)
    told: list[tuple[str, int, int]] = []
    files = dict(generate([package], wanted, seed, run, lambda *a: told.append(a), cache=cache, workers=workers))
    count = len(json.loads(files["small"])["tasks"])
    assert told == [("small", n, wanted) for n in range(count + 1)]
    return files["small"]


@pytest.mark.slow
def test_same_seed_same_bytes_at_any_number_of_workers_and_resumed(tmp_path: Path) -> None:
    run = Plain(tmp_path)
    text = made(tmp_path / "one", run, workers=2)
    manifest = json.loads(text)
    assert len(manifest["tasks"]) == 5 and not list((tmp_path / "one").glob(".*"))
    # test_broken fails without any fault; of "a b" and "a c" a log shows "a" only
    names = " ".join(test.rpartition("::")[2] for test in manifest["tests"])
    assert names == "test_ends test_mean test_none test_same[1] test_same[5]"
    for number, task in enumerate(manifest["tasks"], 1):
        assert task["id"] == f"small-{number:04}" and task["function"] in ("clip", "_total", "mean")
        assert task["FAIL_TO_PASS"] and set(task["FAIL_TO_PASS"]) <= set(manifest["tests"])
    folder = tmp_path / "pristine"
    folder.mkdir()
    for name, source in (("small.py", CODE), ("setup.cfg", "[x]\n"), ("tests/test_small.py", TESTS)):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(source)
    task = manifest["tasks"][0]
    reverse(folder, task["patch"])
    assert commit_folder(folder) == task["base_commit"]
    before = run.calls
    assert made(tmp_path / "one", run) == text
    assert run.calls - before < before / 2, "the baseline again, and what was begun in advance"
    assert made(tmp_path / "two", run, workers=1) == text


@pytest.mark.slow
def test_packages_that_make_no_tasks_are_refused(tmp_path: Path) -> None:
    run = Plain(tmp_path)
    with pytest.raises(GenerationError, match="do not run to their end"):
        made(tmp_path / "one", run, code="import nothing_of_that_name\n")
    with pytest.raises(GenerationError, match="no fault"):
        made(tmp_path / "two", run, code="clip = mean = None\n")


def log(lines: str, *, end: bool = True, stopped: bool = False) -> Ran:
    return Ran(f"+ : '{START}'\n{lines}" + (f"+ : '{END}'\n" if end else ""), stopped)


def test_what_a_log_tells() -> None:
    good = statuses(
        log("PASSED t.py::a\nPASSED t.py::b[x y]\nPASSED t.py::c[x y]\nPASSED t.py::c[x z]\nFAILED t.py::d - e\n")
    )
    assert good.complete and good.passed() == ["t.py::a", "t.py::b[x"] and good.ambiguous == {"t.py::c[x"}
    assert good.status["t.py::d"] == "FAILED"


def test_runs_that_are_no_test_of_a_fault() -> None:
    assert not statuses(log("PASSED t.py::a\nERROR t.py - ImportError\n")).complete
    assert not statuses(log("PASSED t.py::a\n", end=False)).complete
    assert not statuses(log("PASSED t.py::a\n", stopped=True)).complete
    assert not statuses(log("")).complete
    assert statuses(log("PASSED t.py::a\nERROR t.py::b - in a fixture\n")).complete


@pytest.mark.slow
def test_the_real_runner_uses_a_sandbox(tmp_path: Path) -> None:
    from envs_data.swebench.sdists import fetch_sdist, unpack

    needs_any()

    package = PACKAGES["inflection"]
    try:
        run = in_sandbox(tmp_path)
        unpack(package, fetch_sdist(package, tmp_path), tmp_path / "files")
    except DataError as error:
        pytest.skip(f"the package index cannot be reached: {error}")
    commit = commit_folder(tmp_path / "files")
    suite = run_suite(run, package, tmp_path / "files", commit)
    assert suite.complete and len(suite.passed()) > 400 and set(suite.status.values()) == {"PASSED"}
