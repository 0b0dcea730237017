"""Makes the helper modules of this folder importable by its tests; where tests of `aem-eval` work."""

import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import pytest

sys.path.append(str(Path(__file__).parent))

TROUBLED = '''
import time
from pathlib import Path
from aem_envs import register
from aem_envs.core import InfrastructureError
from aem_envs.toy import ToyEnv

class TroubledEnv(ToyEnv):
    """The toy with slow steps, whose tasks of three rooms break while the file `broken` exists; the file `edition`
    stands for the tasks' data."""

    def __init__(self, *, delay: float = 0.0, broken: str = "", **rest):
        super().__init__(**rest)
        self.delay, self.broken = delay, broken

    def step(self, action):
        time.sleep(self.delay)
        if self.broken and Path(self.broken).exists() and self._task.rooms == 3:
            raise InfrastructureError("the page went away")
        return super().step(action)

    def _info(self, *rest):
        edition = Path("edition")
        return super()._info(*rest) | ({"data_hash": edition.read_text()} if edition.exists() else {})

register("test/Troubled-v0", "troubled:TroubledEnv")
'''


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty working directory with a module `troubled` that registers an environment of a third party."""
    (tmp_path / "troubled.py").write_text(TROUBLED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    gym.registry.pop("test/Troubled-v0", None)
    sys.modules.pop("troubled", None)
