"""An end for vLLM's processes when their owner ends. The standard library only: a server that we start imports it from
a copy of this file, in any environment.

vLLM's engine process does not watch its parent. Its workers do from here: they import this module because they are
asked for `WorkerExtension`.
"""

import os
import select
import signal
import threading
from multiprocessing import parent_process
from typing import Any

OWNER = "AEM_VLLM_OWNER"
"""Environment variable that tells vLLM's processes who must be alive for them to live."""


class _Extension:
    """Adds nothing to a worker: that vLLM asks for it is what is wanted."""


def __getattr__(name: str) -> Any:
    """`WorkerExtension`, for which vLLM asks in each worker: the moment to join in. (Importing the module is none: it
    may be imported in any process, and in a worker before that is one.)"""
    if name != "WorkerExtension":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    join()
    return _Extension


def join() -> bool:
    """End this process with its owner from now on; false in the owner itself."""
    owner = os.environ.get(OWNER, "")
    if not owner.isdecimal() or int(owner) == os.getpid():
        return False
    live_with(int(owner))
    return True


def live_with(owner: int) -> None:
    """End this process and vLLM's engine process above it as soon as process `owner` has ended."""
    try:
        handle = os.pidfd_open(owner)
    except ProcessLookupError:
        _end()
        return
    threading.Thread(target=_wait, args=(handle,), daemon=True, name="owner-watch").start()


def _wait(handle: int) -> None:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.poll()
    _end()


def _end() -> None:
    """The worker can end the engine process, being its child."""
    above = parent_process()
    if above is not None and above.pid is not None and os.getppid() == above.pid:
        os.kill(above.pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
