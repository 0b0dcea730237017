"""Fixtures shared by all rooms: where the official sample data lies, and unpacked copies of it."""

import atexit
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# Tests are not timed: a busy machine must not fail a property. Derandomised, so that a failure is everybody's failure.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

# What tests build or fetch is theirs alone, shared by the workers of one run, and gone with it.
if "AEM_TESTS_CACHE" not in os.environ:
    os.environ["AEM_TESTS_CACHE"] = tempfile.mkdtemp(prefix="aem-tests-")
    atexit.register(shutil.rmtree, os.environ["AEM_TESTS_CACHE"], ignore_errors=True)
os.environ["AEM_CACHE"] = os.environ["AEM_TESTS_CACHE"]

REPOSITORY = Path(__file__).resolve().parents[1]


def official_root() -> Path:
    """The folder of official test data: `$AEM_TEST_DATA`, else `../shared/official` beside the repository."""
    return Path(os.environ.get("AEM_TEST_DATA") or REPOSITORY.parent / "shared" / "official")


@pytest.fixture(scope="session")
def official_alfworld(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpacked official ALFWorld sample: a folder that holds `json_2.1.1/valid_seen/...` (a valid `$ALFWORLD_DATA`)."""
    archive = official_root() / "alfworld" / "json_2.1.1_valid_seen_sample.tar.xz"
    if not archive.is_file():
        pytest.skip(f"official ALFWorld sample absent: {archive} (set AEM_TEST_DATA)")
    folder = tmp_path_factory.mktemp("alfworld_data")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder


@pytest.fixture
def official_webshop(tmp_path: Path) -> Path:
    """A folder of the official-shaped WebShop examples under their official names (a valid `$WEBSHOP_DATA`)."""
    source = official_root() / "webshop"
    if not source.is_dir():
        pytest.skip(f"official WebShop examples absent: {source} (set AEM_TEST_DATA)")
    folder = tmp_path / "webshop_data"
    folder.mkdir()
    for path in source.glob("*_example.json"):
        shutil.copyfile(path, folder / path.name.replace("_example", ""))
    return folder
