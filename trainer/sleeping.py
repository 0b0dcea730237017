"""An engine that shares a GPU with training sleeps during updates: its memory is the optimiser's meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.session import Session


@contextmanager
def asleep(session: "Session") -> Iterator[None]:
    """Where `rollout.engine_options.sleep` is true: level 1 (weights wait in main memory) until the block is left.

    After an error it is not woken: the run ends. Not with `rollout.staleness` (`trainer.engines` refuses that).
    """
    engine: Any = session.engine
    if session.config.rollout.engine_options.get("sleep") is not True:
        yield
        return
    session.loop.run(engine.sleep(1))
    yield
    session.loop.run(engine.wake())
