"""The public surface is typed from a user's side: mypy --strict on a program of theirs, against installed packages."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = Path(__file__).parent / "typing" / "user_program.py"
PACKAGES = ("aem_agent", "aem_envs", "aem_suite", "envs_data", "trainer")

# Each line of the program that a type checker must refuse, or the types it sees are Any.
WRONG = {
    "terminated or truncated)": "terminated.nothing)",
    "temperature=0.0": 'temperature="warm"',
    "Advantages(scale": 'Advantages("scale"',
    "episode.won for": "episode.wun for",
    "lam=0.5": 'lam="half"',
    "won=won, steps=1": "won=won, steps=None",
    "expert.reset(inner": "expert.reset(1",
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment where our packages lie as pip would put them, beside what is installed."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(folder), "platbase": str(folder)}))
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").is_file()
        (site / package).symlink_to(ROOT / package)
    (site / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return folder / "bin" / "python"


def mypy(python: Path, program: Path, cache: Path) -> str:
    """What mypy --strict says of `program`, without any configuration of ours."""
    words = ["--strict", "--config-file", "", "--python-executable", python, "--cache-dir", cache, program]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *map(str, words)], cwd=program.parent, capture_output=True, text=True
    )
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_users_program_passes_a_strict_type_check_and_mistakes_do_not(python: Path, tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="the dev extra has it")
    text = PROGRAM.read_text()
    right = tmp_path / "user_program.py"
    right.write_text(text)
    assert mypy(python, right, tmp_path / "cache") == "Success: no issues found in 1 source file\n"
    lines = text.splitlines()
    expected = set()
    for old, new in WRONG.items():
        (number,) = (n for n, line in enumerate(lines) if old in line)
        lines[number] = lines[number].replace(old, new)
        expected.add(number + 1)
    right.write_text("\n".join(lines) + "\n")
    found = mypy(python, right, tmp_path / "cache")
    errors = {int(line.split(":")[1]) for line in found.splitlines() if ": error:" in line}
    assert errors == expected, found


@pytest.mark.slow
def test_the_program_runs(python: Path, tmp_path: Path) -> None:
    done = subprocess.run([python, PROGRAM], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["heads or tails?", "won 6"]
