"""A person plays an environment in the terminal: Tab completes, `:undo` goes back, everything shown is neutralised."""

import sys
from collections.abc import Callable
from typing import Any

from aem_envs.core import AemEnvError, TextEnv
from aem_envs.sanitize import plain
from envs_data.errors import DataError

HELP = """\
Type an action; Tab completes it. Commands of the player begin with a colon:
  :actions        what can be done now
  :undo           take the last action back
  :again          start this task again
  :new [TASK_ID]  start another task
  :info           everything the environment reports
  :help           this text
  :quit           leave (so do Ctrl-D and Ctrl-C)"""


class Player:
    """One session at the terminal."""

    def __init__(self, env: TextEnv, write: Callable[[str], None] = print) -> None:
        self.env, self._write = env, write
        self.info: dict[str, Any] = {}
        self._observation = ""
        self._over = False
        self._past: list[tuple[bytes, str, dict[str, Any], bool]] = []

    def start(self, seed: int | None = None, **options: str | None) -> None:
        """Begin an episode; `options` are those of `reset`, None meaning not given."""
        given = {name: value for name, value in options.items() if value}
        self._observation, self.info = self.env.reset(seed=seed, options=given)
        self._past.clear()
        self._over = False
        self.say(f"[{self.info['task_id']}, {self.info['task_type']}, {self.info['engine']}; :help for help]")
        self.say(self._observation)

    def say(self, text: str) -> None:
        """Show text of whatever origin."""
        self._write(plain(text))

    def completions(self, typed: str) -> list[str]:
        """What Tab offers for the line typed so far."""
        commands = [f":{name}" for name in self._commands()]
        actions = [] if self._over else self.info.get("admissible_actions") or []
        return [line for line in (commands if typed.startswith(":") else actions) if line.startswith(typed)]

    def enter(self, line: str) -> bool:
        """Obey one line; False to leave."""
        line = line.strip()
        if line in (":quit", ":q", ":exit"):
            return False
        if line.startswith(":"):
            name, _, rest = line[1:].partition(" ")
            command = self._commands().get(name)
            if command is None:
                self.say(f"unknown command :{name}; :help lists them")
            else:
                command(rest.strip())
        elif line and self._over:
            self.say("The episode is over: :again, :new, :undo or :quit.")
        elif line:
            self._act(line)
        return True

    def _commands(self) -> dict[str, Callable[[str], None]]:
        return {
            "actions": lambda _: self.say("\n".join(self.info["admissible_actions"] or ["(no finite set)"])),
            "undo": lambda _: self._undo(),
            "again": lambda _: self.start(task_id=self.info["task_id"]),
            "new": self._new,
            "info": lambda _: self.say("\n".join(f"{key}: {value!r}" for key, value in self.info.items())),
            "help": lambda _: self.say(HELP),
            "quit": lambda _: None,  # for completion; `enter` leaves
        }

    def _act(self, action: str) -> None:
        state = self.env.get_state() if self.env.capabilities.snapshot else None
        before = self._observation, self.info
        self._observation, reward, terminated, truncated, self.info = self.env.step(action)
        if state is not None:
            self._past.append((state, *before, self._over))
        self.say(self._observation)
        if self.info["action_error"]:
            self.say(f"({self.info['action_error']})")
        self._over = terminated or truncated
        if self._over:
            end = "Won" if self.info["won"] else "Lost" if terminated else f"Stopped ({self.info['truncation_reason']})"
            self.say(f"{end} after {self.info['steps']} steps, reward {reward:g}. :again, :new or :quit.")

    def _undo(self) -> None:
        if not self.env.capabilities.snapshot:
            self.say("this environment cannot go back")
        elif not self._past:
            self.say("nothing to take back")
        else:
            state, self._observation, self.info, self._over = self._past.pop()
            self.env.set_state(state)
            self.say(self._observation)

    def _new(self, task_id: str) -> None:
        try:
            self.start(task_id=task_id or None)
        except (AemEnvError, DataError) as error:
            self.say(f"error: {error}")


def play(env: TextEnv, seed: int | None = None, split: str | None = None, task_id: str | None = None) -> None:
    """Play on standard input and output until `:quit` or the end of input. Piped input is echoed."""
    player = Player(env)
    player.start(seed=seed, split=split, task_id=task_id)
    interactive = sys.stdin.isatty()
    if interactive:
        _complete_with(player)
    while True:
        try:
            line = input("> " if interactive else "")
        except EOFError:
            break
        if not interactive:
            player.say(f"> {line}")
        if not player.enter(line):
            break


def _complete_with(player: Player) -> None:
    """Tab completion of whole lines, where Python has readline."""
    try:
        import readline
    except ImportError:  # some builds of Python lack it; the game goes on without completion
        return

    def complete(typed: str, state: int) -> str | None:
        return next(iter(player.completions(typed)[state:]), None)

    readline.set_completer(complete)
    readline.set_completer_delims("")
    readline.parse_and_bind("tab: complete")
