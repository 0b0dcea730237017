"""A test double of an OpenAI-compatible server: for tests, benchmarks, and examples that must run without a model.

It answers chat and completions on loopback, token ids and log-probs included, at once or after a wait, and misbehaves
on demand. What it says is a fixed text, or the next of several; it knows no model and draws nothing. As a program,
`python -m aem_agent.engines.fake_server --port 8000 --say "go east"`, it serves until it is ended.
"""

import argparse
import asyncio
import itertools
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aem_agent.engines.fake import ByteTokenizer

MOST = 1 << 20
"""Bytes of a request's head at most."""


@dataclass(frozen=True, slots=True)
class Fault:
    """How one request is answered instead of properly. Of several kinds the first given counts."""

    status: int = 200
    """Any other: this status with `body`."""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"told to fail"
    """Of a status, or of `garbage`."""
    delay: float = 0.0
    """Seconds before anything is answered; may go with the others, or alone."""
    garbage: bool = False
    """Status 200 with `body`."""
    half: bool = False
    """Half of the proper answer, then a lost connection."""
    endless: bool = False
    """A body that never ends."""
    hang: bool = False
    """No answer ever."""


PROPER = Fault()


class FakeServer:
    """A server in a thread of its own: `with FakeServer() as server: … server.url`.

    Args:
        say: what it answers, one after another, from the first again after the last.
        faults: of the first so many requests, in order of arrival; `PROPER` is none.
        latency: seconds that every answer takes.
        key: the only key that is let in; None: every one, and none.
        ids: answers `return_token_ids`, as vLLM; without, it leaves them out, as most vendors.
        cost: what it says that an answer costs.
        port: 0: a free one.
    """

    def __init__(
        self,
        say: Sequence[str] = ("<think>East.</think><action>go east</action>",),
        *,
        faults: Sequence[Fault] = (),
        latency: float = 0.0,
        key: str | None = None,
        ids: bool = True,
        cost: float | None = None,
        port: int = 0,
    ) -> None:
        self.requests: list[dict[str, Any]] = []
        """Bodies of the requests, in order of arrival."""
        self.running = 0
        self.most_running = 0
        """Largest number of requests that were answered at the same time."""
        self._say = itertools.cycle(say)
        self._faults = iter(faults)
        self._latency = latency
        self._key = key
        self._ids = ids
        self._cost = cost
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fake-server", daemon=True)

    @property
    def url(self) -> str:
        """Base URL, `/v1` included."""
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except OSError as error:  # the port is taken
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", self._port, limit=MOST)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, path, headers = _parsed(head)
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.running += 1
                self.most_running = max(self.most_running, self.running)
                try:
                    await self._answer(method, path, headers, body, writer)
                finally:
                    self.running -= 1
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # the client has gone, talks something else, or the server ends: Python 3.11 reports cancelled tasks
        finally:
            writer.transport.abort()

    async def _answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        if self._key is not None and headers.get("authorization") != f"Bearer {self._key}":
            await _send(writer, 401, b'{"error": "wrong key"}')
            return
        if method == "GET":
            models = {"data": [{"id": "fake", "max_model_len": 4096}]}
            await _send(writer, 200 if path.endswith("/models") else 404, json.dumps(models).encode())
            return
        asked = json.loads(body)
        if not isinstance(asked, dict) or not {"max_tokens", "max_completion_tokens"} & asked.keys():
            await _send(writer, 400, b'{"error": "say max_tokens"}')
            return
        self.requests.append(asked)
        fault = next(self._faults, PROPER)
        await asyncio.sleep(self._latency + fault.delay)
        if fault.hang:
            await asyncio.Event().wait()
        if fault.status != 200 or fault.garbage:
            await _send(writer, fault.status, fault.body, fault.headers)
            return
        text = next(self._say)
        data = json.dumps(self._chat(text) if path.endswith("/chat/completions") else self._completion(asked, text))
        await _send(writer, 200, data.encode(), fault.headers, half=fault.half, endless=fault.endless)

    def _chat(self, text: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": text}
        return {"choices": [{"message": message, "finish_reason": "stop"}], "usage": self._usage(text)}

    def _completion(self, asked: dict[str, Any], text: str) -> dict[str, Any]:
        """As vLLM answers: an end token is sampled after the text, or a stop string ends it."""
        tokenizer = ByteTokenizer()
        found = [(text.index(stop) + len(stop), stop) for stop in asked.get("stop", ()) if stop in text]
        end, stop = min(found, default=(len(text), None))
        ids = [*tokenizer.encode(text[:end]), *([] if found else [tokenizer.eos_token_id])][: asked["max_tokens"]]
        shown = text[:end] if stop is None or asked.get("include_stop_str_in_output") else text[: end - len(stop)]
        choice: dict[str, Any] = {"text": shown, "stop_reason": stop}
        choice["finish_reason"] = "length" if len(ids) == asked["max_tokens"] else "stop"
        if self._ids and asked.get("return_token_ids"):
            choice |= {"token_ids": ids, "prompt_token_ids": asked["prompt"]}
        if asked.get("logprobs") is not None:
            choice["logprobs"] = {"token_logprobs": [-0.5] * len(ids)}
        return {"choices": [choice], "usage": self._usage(text)}

    def _usage(self, text: str) -> dict[str, Any]:
        usage = {"prompt_tokens": 10, "completion_tokens": len(text.split())}
        return usage if self._cost is None else {**usage, "cost": self._cost}


def _parsed(head: bytes) -> tuple[str, str, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    headers = dict(line.split(":", 1) for line in lines if line)
    return method, path, {name.strip().lower(): value.strip() for name, value in headers.items()}


async def _send(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    headers: dict[str, str] | None = None,
    *,
    half: bool = False,
    endless: bool = False,
) -> None:
    given = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    if endless:
        del given["Content-Length"]
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    writer.write(f"HTTP/1.1 {status} told\r\n{lines}\r\n".encode("latin-1") + body[: len(body) // 2 if half else None])
    while endless:
        writer.write(b" " * (1 << 16))
        await writer.drain()
    await writer.drain()
    if half:
        raise EOFError


def main(argv: list[str] | None = None) -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(prog="fake_server", description="A test double of an OpenAI-compatible server.")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--say", action="append", metavar="TEXT", help="what it answers; repeatable")
    args = parser.parse_args(argv)
    with FakeServer(**({"say": args.say} if args.say else {}), port=args.port) as server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
