"""Prompt specs: what a language model is shown of an episode.

A prompt is a sequence of parts. A part is text, to be encoded, or the token ids of an earlier response, spliced in as
they were sampled: text that the engine sampled is never encoded again.

    head      what stays: the task, the first observation
    blocks    one per turn played, oldest first; the overflow rule drops them from the front
    tail      the newest observation where the blocks do not hold it, and the cue to act

`aem_agent.prompter` builds prompts turn by turn; `aem_agent.registry.prompt_specs` names the specs.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from aem_agent.env_texts import EnvText
from aem_agent.types import AgentError, Message

Part = str | tuple[int, ...]
Parts = tuple[Part, ...]


class PromptSpecError(AgentError):
    """Options that a prompt spec does not take."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One turn, and what came of it."""

    number: int
    """From 1."""
    seen: str
    """The observation before it."""
    said: Part
    """The response: its token ids as sampled; its text where the policy had none."""
    text: str
    """The response's text."""
    action: str
    """What was sent to the environment."""
    came: str
    """The observation after it."""


class PromptSpec(Protocol):
    """What a model is shown. Stateless: one object serves all episodes."""

    name: str
    parser: str
    """Name of the parser that reads the answers asked for."""
    stop: tuple[str, ...]
    """Strings that end an answer."""
    chat: bool
    """The prompt is one message to an instruct model: framed by its chat template, if it has one."""
    kept_blocks: int
    """Newest blocks that the overflow rule may not drop: 1 where the newest observation is in the last block."""

    @property
    def window(self) -> int | None:
        """Turns shown with their observations; None: all."""
        ...

    def head(self, texts: EnvText, first: str) -> Parts:
        """What stays, from the first observation."""
        ...

    def block(self, texts: EnvText, turn: Exchange) -> Parts:
        """A turn within the window."""
        ...

    def earlier(self, texts: EnvText, turn: Exchange) -> Parts:
        """A turn before the window; may be empty."""
        ...

    def tail(self, texts: EnvText, number: int, observation: str, info: Mapping[str, Any]) -> Parts:
        """The end of the prompt for turn `number` (from 1)."""
        ...

    def say(self, texts: EnvText, action: str, observation: str) -> str:
        """An action of the environment, in answer to `observation`, in the words this spec asks for."""
        ...

    def mean(self, texts: EnvText, said: str, observation: str) -> str:
        """The environment's action for what was said in these words: the other way round."""
        ...

    def answer(self, said: str, thought: str = "") -> str:
        """The response that has `said` as its action: what demonstrations teach."""
        ...

    def messages(self, head: Parts, blocks: Sequence[Parts], tail: Parts) -> list[Message]:
        """The prompt for a chat endpoint; all parts are text there."""
        ...


@dataclass(frozen=True, slots=True)
class PlainSpec:
    """Compact lines for small models: the task, the room if there is one, then actions and what they brought.

    task : put a clean mug in shelf
    room : cabinet 1 sinkbasin 1 shelf 1
    > go to sinkbasin 1
    On sinkbasin 1 see mug 2.
    >
    """

    window: int | None = 3
    """Turns shown; None: all, so that each prompt extends the one before."""
    earlier_turns: Literal["none", "actions"] = "none"
    """What is shown of turns before the window: nothing, or what was said without what it brought."""
    compact: bool = True
    """Leave out words that carry nothing, and say actions in few words, where the environment's texts are known."""
    admissible: bool = False
    """List the admissible actions."""
    name = "plain"
    parser = "line"
    stop = ("\n",)
    chat = False
    kept_blocks = 1

    def __post_init__(self) -> None:
        _check_window(self.window)
        if self.earlier_turns not in ("none", "actions"):
            raise PromptSpecError(f'earlier_turns is "none" or "actions", not {self.earlier_turns!r}')

    def head(self, texts: EnvText, first: str) -> Parts:
        intro = texts.intro(first)
        scene = self._shown(texts, intro.scene)
        if not intro.task:
            return (f"{scene}\n",)
        task = intro.brief if self.compact and intro.brief else intro.task
        return (f"task : {task}\nroom : {scene}\n" if scene else f"task : {task}\n",)

    def block(self, texts: EnvText, turn: Exchange) -> Parts:
        return "> ", turn.said, f"{_line_end(turn)}{self._shown(texts, turn.came)}\n"

    def earlier(self, texts: EnvText, turn: Exchange) -> Parts:
        if self.earlier_turns == "none":
            return ()
        end = _line_end(turn)
        return ("> ", turn.said, end) if end else ("> ", turn.said)

    def tail(self, texts: EnvText, number: int, observation: str, info: Mapping[str, Any]) -> Parts:
        actions = info.get("admissible_actions") if self.admissible else None
        if not actions:
            return ("> ",)
        return f"actions : {' ; '.join(self.say(texts, action, observation) for action in actions)}\n", "> "

    def say(self, texts: EnvText, action: str, observation: str) -> str:
        return texts.say(action, observation) if self.compact else action

    def mean(self, texts: EnvText, said: str, observation: str) -> str:
        return texts.mean(said, observation) if self.compact else said

    def answer(self, said: str, thought: str = "") -> str:
        return f"{said}\n"

    def messages(self, head: Parts, blocks: Sequence[Parts], tail: Parts) -> list[Message]:
        return [{"role": "user", "content": _joined(head, *blocks, tail)}]

    def _shown(self, texts: EnvText, observation: str) -> str:
        return texts.compact(observation) if self.compact else observation.strip()


@dataclass(frozen=True, slots=True)
class PlainFullSpec(PlainSpec):
    """`plain` with the whole history: the prompt of each turn extends the prompt and response of the turn before, token
    for token, until the overflow rule has to drop turns."""

    window: int | None = None
    name = "plain-full"

    def __post_init__(self) -> None:
        if self.window is not None or self.admissible:
            raise PromptSpecError("plain-full shows every turn and no lists of actions; use plain for either")

    def messages(self, head: Parts, blocks: Sequence[Parts], tail: Parts) -> list[Message]:
        """A conversation: observations from the user, actions from the assistant."""
        messages: list[Message] = [{"role": "user", "content": _joined(head)}]
        for _cue, said, came in blocks:
            messages.append({"role": "assistant", "content": str(said).rstrip("\n")})
            messages.append({"role": "user", "content": str(came).lstrip("\n")})
        return messages


@dataclass(frozen=True, slots=True)
class ThinkActionSpec:
    """One message for instruct models: task, latest turns, what is seen now, and a request for
    `<think>…</think><action>…</action>` (the shape known from verl-agent).

    Earlier turns are shown by the action that was understood, not by the whole response: nothing that was sampled as
    part of a response is continued, each turn is a conversation of its own.
    """

    window: int | None = 2
    """Turns shown before the newest observation; None: all."""
    admissible: bool = True
    """List the admissible actions, where the environment has them."""
    name = "think-action"
    parser = "think-action"
    stop = ("</action>",)
    chat = True
    kept_blocks = 0

    def __post_init__(self) -> None:
        _check_window(self.window)

    def head(self, texts: EnvText, first: str) -> Parts:
        intro = texts.intro(first)
        task = f"Your task is to: {unframed(intro.task)}\n" if intro.task else ""
        scene = f"At the start you saw: {unframed(intro.scene)}\n" if intro.scene or not task else ""
        return (f"You act in an environment that answers in text.\n{task}{scene}",)

    def block(self, texts: EnvText, turn: Exchange) -> Parts:
        seen = f"[Observation {turn.number}: '{unframed(turn.seen.strip())}', " if turn.number > 1 else "["
        return (f"{seen}Action {turn.number}: '{unframed(turn.action.strip())}']\n",)

    def earlier(self, texts: EnvText, turn: Exchange) -> Parts:
        return ()

    def tail(self, texts: EnvText, number: int, observation: str, info: Mapping[str, Any]) -> Parts:
        now = f"Actions taken so far: {number - 1}. This is step {number}.\n"
        seen = f"You now see: {unframed(observation.strip())}\n" if number > 1 else ""
        actions = info.get("admissible_actions") if self.admissible else None
        listed = f"Your admissible actions are: [{', '.join(map(repr, actions))}].\n" if actions else ""
        if actions and any(_FORM.search(action) for action in actions):
            listed += "Where an action has a name in <>, write words of your own in its place.\n"
        return now, seen, unframed(listed), _INSTRUCTION

    def say(self, texts: EnvText, action: str, observation: str) -> str:
        return action

    def mean(self, texts: EnvText, said: str, observation: str) -> str:
        return said

    def answer(self, said: str, thought: str = "") -> str:
        return f"<think>{thought}</think><action>{said}</action>"

    def messages(self, head: Parts, blocks: Sequence[Parts], tail: Parts) -> list[Message]:
        return [{"role": "user", "content": _joined(head, *blocks, tail)}]


_INSTRUCTION = (
    "Think first about where you are and what to do next, inside <think> </think>. "
    "Then give exactly one action inside <action> </action>.\n"
)


_FORM = re.compile(r"<\w+>")
"""Marks a place for free text in a listed action, as in search[<query>]."""


def _check_window(window: int | None) -> None:
    if window is not None and (not isinstance(window, int) or window < 1):
        raise PromptSpecError(f"window is a number of turns from 1, or None for all, not {window!r}")


def _line_end(turn: Exchange) -> str:
    """The line end that a response lacks when it was cut short or ended by an end token."""
    return "" if turn.text.endswith("\n") else "\n"


def unframed(text: str) -> str:
    """Environment text that cannot end its message: chat templates mark roles by tokens such as <|im_end|>."""
    return text.replace("<|", "< |")


def _joined(*parts: Parts) -> str:
    return "".join(str(part) for group in parts for part in group)
