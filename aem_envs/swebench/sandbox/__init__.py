"""Sandboxes by kind. A kind of your own: `sandboxes.add("mine", "module:Class")`, or `sandbox="module:Class"`."""

from typing import Any

from aem_envs.plugins import Registry
from aem_envs.swebench.sandbox.api import (
    REPOSITORY,
    Limits,
    PatchTooLargeError,
    Result,
    Room,
    Sandbox,
    SandboxError,
    SandboxMissingError,
)

__all__ = [
    "REPOSITORY",
    "Limits",
    "PatchTooLargeError",
    "Result",
    "Room",
    "Sandbox",
    "SandboxError",
    "SandboxMissingError",
    "make_sandbox",
    "sandboxes",
]

sandboxes: "Registry[Any]" = Registry("sandboxes")
"""Kind to a factory `(room, limits, **options) -> Sandbox`."""
sandboxes.add("local", "aem_envs.swebench.sandbox.local:LocalSandbox")
sandboxes.add("docker", "aem_envs.swebench.sandbox.docker:DockerSandbox")
sandboxes.add("fake", "aem_envs.swebench.sandbox.fake:FakeSandbox")


def make_sandbox(kind: str, room: Room, limits: Limits | None = None, **options: Any) -> Sandbox:
    """A sandbox of the kind, not started yet.

    Raises:
        UnknownPluginError: no such kind.
        SandboxMissingError: this machine cannot run it.
    """
    sandbox: Sandbox = sandboxes.get(kind)(room, limits or Limits(), **options)
    return sandbox
