"""A person shops in a browser of their own, and the terminal tells what they did: `aem-envs play … --browser`."""

import webbrowser
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

from aem_envs.core import BadOptionError, TextEnv
from aem_envs.sanitize import counted, plain
from aem_envs.webshop.env import WebShopEnv
from aem_envs.webshop.server import Desk, ShopServer
from aem_envs.webshop.view import View


class Shopping:
    """Tasks one after the other on one environment, done by whoever uses the pages. What happens is put into `events`;
    an exception there is a fault of the environment's."""

    def __init__(self, env: WebShopEnv) -> None:
        self.events: SimpleQueue[str | BaseException] = SimpleQueue()
        self.desk = Desk(self._view, self._search, self._click, self.start, lambda: self._over)
        self._env, self._over = env, ""

    def start(self, seed: int | None = None, **options: str | None) -> None:
        """Begin a task; `options` are those of `reset`, None meaning not given."""
        given = {name: value for name, value in options.items() if value}
        _, info = self._env.reset(seed=seed, options=given)
        self._over = ""
        self.events.put(f"\n[{info['task_id']}, {info['task_type']}, {info['engine']}]\n{self._env.goal.instruction}")

    def _view(self) -> View:
        return self._env.session.view()

    def _search(self, words: str) -> None:
        self._act(f"search[{words}]")

    def _click(self, thing: str) -> None:
        self._act(f"click[{thing}]")

    def _act(self, action: str) -> None:
        try:
            _, reward, terminated, truncated, info = self._env.step(action)
        except BaseException as error:
            self.events.put(error)
            raise
        self.events.put(f"> {action}")
        taken = counted(info["steps"], "step")
        if terminated:
            self.events.put(f"{'Won' if info['won'] else 'Not quite'} after {taken}, reward {reward:.3g}.")
        elif truncated:
            self._over = f"The end: a task has {taken}."
            self.events.put(f"Stopped after {taken} ({info['truncation_reason']}), reward 0.")


def play_in_browser(
    env: TextEnv,
    seed: int | None = None,
    split: str | None = None,
    task_id: str | None = None,
    port: int = 0,
    show: bool = True,
    write: Callable[[str], Any] = partial(print, flush=True),  # noqa: B008
) -> None:
    """Serve the shop until Ctrl-C (`KeyboardInterrupt`, with the server closed) and tell what happens in it.

    `show` opens the address in the system's browser.

    Raises:
        BadOptionError: `env` is not aem/WebShop-v0, or an unknown split or task.
        PortInUseError: the port is taken.
    """
    if type(env) is not WebShopEnv:
        raise BadOptionError("--browser is for aem/WebShop-v0: play others without it")
    server = ShopServer(port)
    try:
        shopping = Shopping(env)
        shopping.start(seed, split=split, task_id=task_id)
        address = server.open(shopping.desk)
        write(f"The shop is at {address}\nCtrl-C closes it.")
        if show and not webbrowser.open(address):
            write("No browser could be started: open that address in yours, on this machine.")
        while True:
            event = shopping.events.get()
            if isinstance(event, BaseException):
                raise event
            write(plain(event))
    finally:
        server.close()
