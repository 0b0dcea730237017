"""The script that tests a patch of an embedded task, in the shape of SWE-bench's own."""

from collections.abc import Iterable

from envs_data.swebench import evalscript
from envs_data.swebench.packages import Package


def test_command(package: Package, files: Iterable[str]) -> str:
    """pytest with every setting pinned: files that the repository does not have at its commit change nothing.

    `-rA` with `--tb=no` prints one line per test and none of what tests wrote, which the log's parser could mistake
    for results. `--runxfail`: code under test that calls `pytest.xfail()` would pass every test by it; no package has
    tests that are expected to fail.
    """
    conftest = f"--confcutdir={package.conftest}" if package.conftest else "--noconftest"
    plain = "pytest -rA --tb=no --show-capture=no --runxfail -q -p no:cacheprovider"
    return f"{plain} -c {package.config} {conftest} {' '.join(files)}"


def eval_script(package: Package, commit: str, files: Iterable[str] = ()) -> str:
    """Bash: restore tests and settings from `commit`, run `files` (all tests if none), restore again."""
    folders = [path for path in package.tests if not path.endswith(".py")]
    clean = (f"git clean -fdqx -- {' '.join(folders)}",) if folders else ()
    command = test_command(package, tuple(files) or package.tests)
    return evalscript.eval_script(command, base_commit=commit, restore=package.restored, setup=clean)
