"""A vLLM server of our own: started for a model folder, for this process alone, and gone with it."""

import os
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfile
from types import TracebackType
from typing import Any, Self

import httpx

from aem_agent.engines import vllm_key_guard, vllm_watch
from aem_agent.engines.endpoint_key import Key
from aem_agent.engines.server_process import ServerProcess
from aem_agent.engines.vllm_compat import BACKEND, PACKAGES, VllmVersionError, checked_release
from aem_agent.engines.vllm_room import keep_compiled
from aem_agent.engines.vllm_settings import VllmSettings
from aem_agent.types import EngineError

NAME = "model"
"""What the model is called at the server."""
PYTHON = "AEM_VLLM_PYTHON"
"""Environment variable: the interpreter of an environment that holds vLLM, where it is not this one."""
START_LIMIT = 900.0
"""Seconds: a large model takes minutes to load and compile."""
IDLE = 3600
"""Seconds that the server keeps idle connections: whoever asks closes them before, and loses no request to a close."""
_SECRET = re.compile("KEY|TOKEN(?!I[SZ])|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
"""In names of variables that a server has no use for (TOKENIZERS_PARALLELISM is none)."""
_NEVER = ("VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_INSECURE_SERIALIZATION")
_VERSION = f"""
from importlib.metadata import PackageNotFoundError, version
for package in {PACKAGES!r}:
    try:
        print(version(package))
        break
    except PackageNotFoundError:
        pass
"""


class VllmServer:
    """`python -m vllm.entrypoints.openai.api_server` on loopback, at `url`, with a random key that every route demands.

    vLLM itself asks for the key on some routes only, and with `updates` it has routes that can run code:
    `vllm_key_guard.py` is put before all of them. The key reaches the server by its environment, and no other process
    but this one's. Usage statistics are off, weights are safetensors, nothing is fetched, no code of the folder is run.

    Args:
        folder: model folder.
        device, max_batch, options: as of `VllmSettings`.
        updates: weights will be replaced (`VllmServerEngine.load_weights`): vLLM's development mode, and our package
            must be importable for the interpreter.
        python: interpreter that has vLLM; None: `$AEM_VLLM_PYTHON`, else this one.
        start_limit: seconds until the server must answer.
        arguments: further ones for vLLM's command line.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        device: str = "cpu",
        max_batch: int = 64,
        updates: bool = False,
        python: str | None = None,
        start_limit: float = START_LIMIT,
        arguments: Sequence[str] = (),
        **options: Any,
    ) -> None:
        """Start the server and wait until it answers.

        Raises:
            VllmVersionError: the interpreter has no vLLM, or one of another release.
            EngineError: it does not start in time, or ends; with the end of its log.
            ModelError: the folder is no model folder.
        """
        self.settings = VllmSettings.of(Path(folder).resolve(), device, max_batch, options)
        if self.settings.weights not in ("auto", "memory"):
            raise EngineError(f"a server takes weights through memory, not {self.settings.weights!r}")
        self.updates = updates
        self._python, self.release = vllm_of(python)
        token = secrets.token_urlsafe(32)
        self.key = Key(token)
        self._process = ServerProcess()
        try:
            with _reserved_port() as port:
                self.root = f"http://127.0.0.1:{port}"
                copyfile(vllm_key_guard.__file__, self._process.folder / "aem_key_guard.py")
                copyfile(vllm_watch.__file__, self._process.folder / "aem_watch.py")
                keep_compiled(self._process.folder)
                command = [*self._command(port, updates), *arguments]
                self._process.run(command, self._environment(token, updates))
                self._wait(start_limit, token)
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Base URL of the OpenAI-compatible interface."""
        return f"{self.root}/v1"

    @property
    def pid(self) -> int:
        """A process that all of the server's are below."""
        return self._process.pid

    def lost(self) -> str:
        """Why no request can be answered any more; "" while the server runs."""
        return f"the vLLM server ended; the end of its log:\n{self.log()}" if self._process.ended() else ""

    def log(self) -> str:
        """The end of what the server has printed."""
        return self.key.masked(self._process.log())

    def close(self) -> None:
        """End the server and its processes, and remove what it wrote; harmless when repeated."""
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _command(self, port: int, updates: bool) -> list[str]:
        fixed = {
            "served_model_name": NAME,
            "host": "127.0.0.1",
            "port": port,
            "logprobs_mode": "processed_logprobs",
            "enable_prefix_caching": True,
            "generation_config": "vllm",  # the folder's must not change how one draws
            "load_format": "safetensors",
            "worker_extension_cls": "aem_watch.WorkerExtension",
            "middleware": "aem_key_guard.KeyGuard",
            "disable_uvicorn_access_log": True,
            "disable_log_stats": True,
        }
        if updates:
            fixed |= {
                "worker_extension_cls": "aem_agent.engines.vllm_worker.WorkerExtension",
                "weight_transfer_config": f'{{"backend": "{BACKEND}"}}',
            }
        given = self.settings.arguments(os.environ) | fixed
        command = [self._python, "-m", "vllm.entrypoints.openai.api_server"]
        for name, value in given.items():
            option = f"--{name.replace('_', '-')}"
            if value is True:
                command.append(option)
            elif value is not False:
                command += [option, str(value)]
        return command

    def _environment(self, token: str, updates: bool) -> dict[str, str]:
        """What the server inherits: no keys but its own, no way to the network, and where our modules are."""
        kept = {k: v for k, v in os.environ.items() if not _SECRET.search(k) and k not in _NEVER}
        room = str(self._process.folder)
        paths = [room, *([str(Path(__file__).parents[2])] if updates else []), kept.get("PYTHONPATH", "")]
        ours = {
            vllm_key_guard.VARIABLE: token,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "TMPDIR": room,
            "VLLM_RPC_BASE_PATH": room,
            "VLLM_HOST_IP": "127.0.0.1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(IDLE),
            vllm_watch.OWNER: str(self._process.pid),
        }
        if self.settings.device == "cpu":
            kept = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", **kept}
        return kept | ours | ({"VLLM_SERVER_DEV_MODE": "1"} if updates else {})

    def _wait(self, limit: float, token: str) -> None:
        deadline = time.monotonic() + limit
        with httpx.Client(trust_env=False, timeout=5.0) as client:
            while time.monotonic() < deadline:
                if reason := self.lost():
                    raise EngineError(reason)
                if _is_ours(client, self.root, token):
                    return
                time.sleep(0.1)
        raise EngineError(f"the vLLM server did not answer within {limit:g} s; the end of its log:\n{self.log()}")


def _is_ours(client: httpx.Client, root: str, token: str) -> bool:
    """Whether the server answers and is ours: only then is it given the key. Raises nothing."""
    nonce = secrets.token_hex(16)
    try:
        answer = client.get(f"{root}{vllm_key_guard.PROOF}{nonce}")
        if answer.text != vllm_key_guard.proof(token, nonce):
            return False
        return client.get(f"{root}/health", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def _reserved_port() -> Iterator[int]:
    """A port that is given to no process that asks for any; vLLM binds it with SO_REUSEADDR, too."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


def vllm_of(python: str | None) -> tuple[str, tuple[int, int]]:
    """The interpreter that runs servers (None: `$AEM_VLLM_PYTHON`, else this one), and the release of its vLLM; raises
    `VllmVersionError`."""
    found = python or os.environ.get(PYTHON) or sys.executable
    return found, _release(found)


def _release(python: str) -> tuple[int, int]:
    """Of the vLLM that an interpreter has; raises `VllmVersionError`."""
    try:
        done = subprocess.run([python, "-c", _VERSION], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise VllmVersionError(f"cannot run {python!r} ({error}): ${PYTHON} names the wrong interpreter?") from None
    if not done.stdout.strip():
        raise VllmVersionError(
            f"{python!r} has no vLLM: install it in an environment of its own (pip install -e '.[vllm]' in aem-suite's "
            f"checkout), and run this in it or name its interpreter in ${PYTHON}"
        )
    return checked_release(done.stdout.strip())
