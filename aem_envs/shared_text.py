"""Texts in shared memory, so that `gym.make_vec(id, n, vectorization_mode="async")` just works.

Importing this teaches Gymnasium's `AsyncVectorEnv` to share a `FreeText` space (its own `Text` fails on characters
outside its alphabet).
Each environment has one slot: the text's length in bytes, then UTF-8.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from gymnasium.vector.utils import create_shared_memory, read_from_shared_memory, write_to_shared_memory

from aem_envs.core import AemEnvError, FreeText

SLOT = 1 << 18
"""Bytes of a text that can be shared; most observations have a few hundred."""
_HEAD = 4


class TextTooLongError(AemEnvError):
    """An observation does not fit in shared memory."""


class SharedTexts(Sequence[str]):
    """The newest observation of every environment, read when asked for. A deep copy is a plain tuple."""

    def __init__(self, memory: Any, n: int) -> None:
        self._memory, self._n = memoryview(memory).cast("B"), n

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self)[index]
        start = range(self._n)[index] * SLOT
        end = start + _HEAD + int.from_bytes(self._memory[start : start + _HEAD], "little")
        return str(self._memory[start + _HEAD : end], "utf-8")

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(self._n))

    def __deepcopy__(self, memo: dict[int, Any]) -> tuple[str, ...]:
        return tuple(self)

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]


@create_shared_memory.register(FreeText)
def _create(space: FreeText, n: int = 1, ctx: Any = None) -> Any:
    return ctx.RawArray("B", n * SLOT)


@read_from_shared_memory.register(FreeText)
def _read(space: FreeText, shared_memory: Any, n: int = 1) -> SharedTexts:
    return SharedTexts(shared_memory, n)


@write_to_shared_memory.register(FreeText)
def _write(space: FreeText, index: int, value: str, shared_memory: Any) -> None:
    data = value.encode()
    if len(data) > SLOT - _HEAD:
        raise TextTooLongError(
            f"an observation of {len(data)} bytes does not fit in shared memory ({SLOT - _HEAD}): "
            'pass vector_kwargs={"shared_memory": False} to gym.make_vec'
        )
    slot = memoryview(shared_memory).cast("B")[index * SLOT : (index + 1) * SLOT]
    slot[: _HEAD + len(data)] = len(data).to_bytes(_HEAD, "little") + data
