"""The wheel as a stranger gets it: what is in it, and that it works with the core's packages alone.

It is built from the files git knows, and installed beside links to the core's dependencies as they are installed here.
What this does not show: that pip resolves those dependencies from an index, and that older ones than these work.
"""

import configparser
import hashlib
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from importlib.metadata import distribution, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("aem_agent", "aem_envs", "aem_suite", "envs_data", "trainer")

pytestmark = pytest.mark.slow


def run(*words: "str | Path", cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "AEM_CACHE")}
    return subprocess.run(
        [*map(str, words)], cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, timeout=300
    )


def done(*words: "str | Path", cwd: Path, **environment: str) -> str:
    found = run(*words, cwd=cwd, **environment)
    assert found.returncode == 0, f"{words}\n{found.stdout[-3000:]}\n{found.stderr[-3000:]}"
    return found.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files git tracks or does not ignore: what a build leaves behind stays out of the checkout."""
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    if listed.returncode:
        pytest.skip(f"not a git checkout: {listed.stderr.strip()}")
    folder = tmp_path_factory.mktemp("source")
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():  # one that is deleted and not yet committed is still listed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from the sdist."""
    pytest.importorskip("build", reason="the dev extra has it")
    folder = tmp_path_factory.mktemp("dist")
    done(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source, cwd=folder)
    return folder


def wheel_of(folder: Path) -> Path:
    (found,) = folder.glob("*.whl")
    return found


def contents(wheel: Path) -> dict[str, str]:
    """Name → SHA-256 of each file."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


def test_the_wheel_holds_the_packages_whole_and_nothing_else(source: Path, built: Path) -> None:
    names = contents(wheel_of(built))
    inside = {name for name in names if ".dist-info/" not in name}
    expected = {
        path.relative_to(source).as_posix()
        for room in PACKAGES
        for path in (source / room).rglob("*")
        if path.is_file()
    }
    assert {name for name in expected if "__pycache__" not in name} == inside
    assert {f"{room}/py.typed" for room in PACKAGES} <= inside
    meta = f"aem_suite-{PROJECT['version']}.dist-info"
    assert {f"{meta}/licenses/LICENSE", f"{meta}/licenses/envs_data/swebench/data/NOTICES.txt"} <= names.keys()
    with zipfile.ZipFile(wheel_of(built)) as archive:
        scripts = configparser.ConfigParser()
        scripts.read_string(archive.read(f"{meta}/entry_points.txt").decode())
    assert dict(scripts["console_scripts"]) == PROJECT["scripts"]
    assert set(PROJECT["scripts"]) == {"aem-envs", "aem-data", "aem-eval", "aem-train"}


def test_the_source_distribution_is_enough_to_build_the_same_wheel(source: Path, built: Path, tmp_path: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        tops = {member.name.split("/")[1] for member in archive if member.isfile()}
    assert not tops & {"tests", "bench", "docs", "studies"}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "SECURITY.md", *PACKAGES} <= tops
    done(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, source, cwd=tmp_path)
    assert contents(wheel_of(tmp_path)) == contents(wheel_of(built)), "from the checkout and from the sdist"


def needed(names: "list[str]") -> set[str]:
    """Distributions that `names` need, themselves included, without any extra."""
    found: set[str] = set()
    while names:
        name = re.sub(r"[-_.]+", "-", names.pop()).lower()
        if name not in found:
            found.add(name)
            lines = [line for line in requires(name) or () if ";" not in line or python_marker(line)]
            names += [match[0] for line in lines if (match := re.match(r"[\w.-]+", line))]
    return found


def python_marker(line: str) -> bool:
    from packaging.requirements import Requirement

    marker = Requirement(line).marker
    return marker is None or marker.evaluate({"extra": ""})


@pytest.fixture(scope="module")
def scripts(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a new environment that holds the wheel and the core's dependencies, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    done(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    paths = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    for name in needed([re.match(r"[\w.-]+", line)[0] for line in PROJECT["dependencies"]]):  # type: ignore[index]
        there = distribution(name)
        for top in {file.parts[0] for file in there.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(there.locate_file(top))))
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index")
    done(*pip, wheel_of(built), cwd=folder)
    where = done(python, "-c", "import trainer, aem_envs; print(trainer.__file__, aem_envs.__file__)", cwd=folder)
    assert where.count(str(site)) == 2
    return folder / "bin"


@pytest.mark.parametrize("command", PROJECT["scripts"])
def test_each_script_answers(command: str, scripts: Path, tmp_path: Path) -> None:
    assert f"usage: {command}" in done(scripts / command, "--help", cwd=tmp_path)
    assert done(scripts / command, "--version", cwd=tmp_path).startswith(f"aem-suite {PROJECT['version']} (Python ")
    assert [*tmp_path.iterdir()] == []


def test_embedded_tasks_are_played_with_the_core_alone(scripts: Path, tmp_path: Path) -> None:
    cache = {"AEM_CACHE": str(tmp_path / "cache")}
    for env_id in ("aem/ALFWorld-v0", "aem/WebShop-v0"):
        words = ("run", env_id, "-m", "expert", "-n", "2", "--out", tmp_path / env_id[4:])
        assert "2/2   100.0 %" in done(scripts / "aem-eval", *words, cwd=tmp_path, **cache)
        assert (tmp_path / env_id[4:] / "report.html").is_file()
    listed = done(scripts / "aem-data", "swebench", "ls", "--split", "dev", "--n", "2", cwd=tmp_path, **cache)
    assert len(listed.splitlines()) == 2
    assert "aem/SWEBench-v0" in done(scripts / "aem-envs", "ls", cwd=tmp_path, **cache)


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("aem-train", "run", "toy"), "train"),
        (("aem-train", "report", "anything"), "train"),
        (("aem-eval", "run", "aem/Toy-v0", "-m", "model", "-n", "1"), "train"),
        (("aem-eval", "run", "aem/WebShopBrowser-v0", "-m", "expert", "-n", "1"), "webshop"),
        (("aem-eval", "run", "aem/Toy-v0", "-m", "random", "--pool", "ray"), "ray"),
        (("aem-envs", "play", "aem/WebShopBrowser-v0"), "webshop"),
        (("aem-data", "alfworld", "export", "--out", "games"), "alfworld"),
    ],
)
def test_what_lacks_an_extra_names_it(words: "tuple[str, ...]", extra: str, scripts: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "qwen2"}')
    ended = run(scripts / words[0], *words[1:], cwd=tmp_path, AEM_CACHE=str(tmp_path / "cache"))
    assert ended.returncode == 2 and "Traceback" not in ended.stderr, ended.stderr
    assert "error: " in ended.stderr and f"aem-suite[{extra}]" in ended.stderr
