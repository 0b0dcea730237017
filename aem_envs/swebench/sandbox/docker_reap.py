"""Removal of containers whose process is gone, for the moments in which their own end did not come by itself."""

import os
import threading
from contextlib import suppress

from aem_envs.swebench.sandbox.api import SandboxError
from aem_envs.swebench.sandbox.docker_exec import client, daemon_errors
from aem_envs.swebench.sandbox.reap import owner_alive, owner_mark

LABEL = "aem.suite"
"""Label of all that is ours: `sandbox` for containers, `image` for images."""
OWNER = "aem.owner"
"""Label with the mark of the process whose container it is."""
_once = threading.Lock()
_reaped: set[tuple[int, str | None]] = set()


def labels() -> dict[str, str]:
    """The labels of a container of this process."""
    try:
        return {LABEL: "sandbox", OWNER: owner_mark()}
    except OSError:  # no /proc on this side of the daemon
        return {LABEL: "sandbox"}


def reap_containers() -> list[str]:
    """Remove containers that carry our label and the mark of a process that is gone; their ids.

    Raises:
        SandboxMissingError: no daemon.
        SandboxError: it does not answer.
    """
    api, gone = client(), []
    with daemon_errors("containers cannot be listed"):
        found = api.containers(all=True, filters={"label": [f"{LABEL}=sandbox", OWNER]})
    for container in found:
        if not owner_alive(container["Labels"][OWNER]):
            with suppress(Exception):  # another process may be reaping it, too
                api.remove_container(container["Id"], v=True, force=True)
                gone.append(container["Id"])
    return gone


def reap_containers_once() -> None:
    """`reap_containers`, at the first call in this process for this daemon only. What goes wrong is left to others.

    Raises:
        SandboxMissingError: no daemon.
    """
    key = (os.getpid(), os.environ.get("DOCKER_HOST"))
    with _once:
        if key not in _reaped:
            with suppress(SandboxError):
                reap_containers()
            _reaped.add(key)
