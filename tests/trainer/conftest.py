"""A run that several files compare others with."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from helpers import quick, run


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    run(quick(), path)
    return path


@pytest.fixture
def trained(whole: Path, tmp_path: Path) -> Path:
    """A finished run of four steps, to write into."""
    return Path(shutil.copytree(whole, tmp_path / "run", symlinks=True))
