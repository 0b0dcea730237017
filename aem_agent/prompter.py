"""Builds the prompts of one episode, turn by turn. Every text is encoded once; a new prompt costs what is new in it."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from aem_agent.env_texts import EnvText, env_text
from aem_agent.prompts import Exchange, Part, Parts, PromptSpec
from aem_agent.types import ContextOverflowError, Message, Response, TokenizerLike

Encode = Callable[[str], Sequence[int]]

CUT = " [...] "
"""Stands in a text for the middle that did not fit."""
SHORTEST = 16
"""Characters below which a text is not cut any further."""
RESERVE = 0.2
"""Share of a prompt that the head has to leave free for the newest observation."""


def cached_encoder(tokenizer: TokenizerLike, size: int = 65536) -> Encode:
    """`tokenizer.encode` with a cache; texts that are not valid Unicode are encoded with their faults replaced."""

    @lru_cache(maxsize=size)
    def encode(text: str) -> tuple[int, ...]:
        try:
            return tuple(tokenizer.encode(text))
        except UnicodeEncodeError:  # lone surrogates
            return tuple(tokenizer.encode(text.encode("utf-8", "replace").decode()))

    return encode


class _Transcript:
    """What was said and seen so far, as the parts that a spec makes of it."""

    __slots__ = ("_pending", "_spec", "_texts", "blocks", "first", "head", "newest", "turns")

    def __init__(self, spec: PromptSpec, env_id: str) -> None:
        self._spec = spec
        self._texts: EnvText = env_text(env_id)
        self._pending: tuple[str, Response, str] | None = None
        self.first = self.newest = ""
        self.head: Parts = ()
        self.turns: list[Exchange] = []
        self.blocks: list[Parts] = []

    def said(self, observation: str, response: Response, action: str) -> None:
        """Note the turn that was just answered; what came of it is the next observation."""
        self._pending = (observation, response, action)

    def answer(self, action: str) -> str:
        """The response to the newest prompt that says `action`, an action of the environment."""
        return self._spec.answer(self._spec.say(self._texts, action, self.newest))

    def mean(self, said: str) -> str:
        """The environment's action for what a parser found in the response to the newest prompt."""
        return self._spec.mean(self._texts, said, self.newest)

    def _observe(self, observation: str) -> Exchange | None:
        """Take in the newest observation; returns the turn it completes."""
        self.newest = observation
        if self._pending is None:
            self.first = observation
            return None
        seen, response, action = self._pending
        turn = Exchange(
            len(self.turns) + 1, seen, response.token_ids or response.text, response.text, action, observation
        )
        self._pending = None
        self.turns.append(turn)
        return turn


class TextPrompter(_Transcript):
    """Prompts for chat endpoints. The endpoint counts tokens, so only the spec's window bounds the length."""

    __slots__ = ()

    def messages(self, observation: str, info: Mapping[str, Any]) -> list[Message]:
        """The prompt that ends with `observation`."""
        spec, texts = self._spec, self._texts
        turn = self._observe(observation)
        if turn is None:
            self.head = spec.head(texts, observation)
        else:
            self.blocks.append(spec.block(texts, turn))
        start = 0 if spec.window is None else max(0, len(self.blocks) - spec.window)
        earlier = [spec.earlier(texts, turn) for turn in self.turns[:start]]
        blocks = [block for block in [*earlier, *self.blocks[start:]] if block]
        return spec.messages(self.head, blocks, spec.tail(texts, len(self.turns) + 1, observation, info))


class TokenPrompter(_Transcript):
    """Prompts as token ids, at most `limit` of them.

    Overflow rule: the oldest turns are dropped and counted; if the newest observation alone does not fit, or the
    first one leaves it no room, the middle of that text is cut out and marked; of a response, or an action shown in
    its place, that takes more than half of the room beside the head, the beginning is kept.

    Args:
        encode: text to ids, from `cached_encoder`.
        frame: text before and after the prompt, from the model's chat template.
    """

    __slots__ = ("_earlier_ids", "_encode", "_frame", "_head_ids", "_limit", "_turn_ids")

    def __init__(
        self, spec: PromptSpec, env_id: str, encode: Encode, limit: int, frame: tuple[str, str] = ("", "")
    ) -> None:
        super().__init__(spec, env_id)
        self._encode = encode
        self._limit = limit
        self._frame = frame
        self._head_ids: list[int] = []
        self._turn_ids: list[list[int]] = []
        self._earlier_ids: list[list[int]] = []

    def prompt(self, observation: str, info: Mapping[str, Any]) -> tuple[tuple[int, ...], int]:
        """The prompt that ends with `observation`, and how many turns the overflow rule left out of it.

        Raises:
            ContextOverflowError: not even the shortest form fits.
        """
        turn = self._observe(observation)
        if turn is None:
            tail = self._ids((*self._spec.tail(self._texts, 1, observation, info), self._frame[1]))
            room = self._limit - len(tail) - int(self._limit * RESERVE)
            self._head_ids = self._fitted(self._render_head, observation, room)
        else:
            self._turn_ids.append(self._ids(self._spec.block(self._texts, turn)))
        ids, dropped = self._assemble(observation, info)
        if turn is not None and len(ids) > self._limit:
            ids = self._cut(turn, observation, info)
        return tuple(ids), dropped

    def _assemble(self, observation: str, info: Mapping[str, Any]) -> tuple[list[int], int]:
        """Head, as many of the latest blocks as fit, tail."""
        spec = self._spec
        tail = self._ids((*spec.tail(self._texts, len(self.turns) + 1, observation, info), self._frame[1]))
        blocks = self._turn_ids
        if spec.window is not None and len(blocks) > spec.window:
            for turn in self.turns[len(self._earlier_ids) : len(blocks) - spec.window]:
                self._earlier_ids.append(self._ids(spec.earlier(self._texts, turn)))
            blocks = self._earlier_ids + blocks[-spec.window :]
        excess = len(self._head_ids) + sum(map(len, blocks)) + len(tail) - self._limit
        dropped = first = 0
        droppable = len(blocks) - spec.kept_blocks
        while excess > 0 and first < droppable:
            excess -= len(blocks[first])
            dropped += bool(blocks[first])
            first += 1
        ids = list(self._head_ids)
        for block in blocks[first:]:
            ids += block
        ids += tail
        return ids, dropped

    def _cut(self, turn: Exchange, observation: str, info: Mapping[str, Any]) -> list[int]:
        """Head and newest observation alone, the latter cut: in the last block, the tail, or both."""
        spec, texts = self._spec, self._texts
        said, words = turn.said, turn.text
        room = max(0, self._limit - len(self._head_ids)) // 2
        if len(said) > room:  # a response that ran on: its beginning is shown, and it is no error of anything else
            said, words = said[:room], words[:room].rstrip("\n")
        action = turn.action if len(self._encode(turn.action)) <= room else turn.action[:room].rstrip() + CUT

        def render(text: str) -> list[int]:
            shorter = Exchange(turn.number, turn.seen, said, words, action, text)
            block = spec.block(texts, shorter) if spec.kept_blocks else ()
            tail = spec.tail(texts, turn.number + 1, text, info)
            if spec.kept_blocks:  # later prompts show the shortened text too
                self._turn_ids[-1] = self._ids(block)
            return [*self._head_ids, *self._ids((*block, *tail, self._frame[1]))]

        return self._fitted(render, observation, self._limit)

    def _render_head(self, text: str) -> list[int]:
        return self._ids((self._frame[0], *self._spec.head(self._texts, text)))

    def _fitted(self, render: Callable[[str], list[int]], text: str, limit: int) -> list[int]:
        """What `render` makes of `text`, with as much of its middle cut out as needed."""
        ids = render(text)
        length = len(text)
        while len(ids) > limit:
            length = min(length * max(limit, 0) // len(ids), length - 1)
            if length < SHORTEST:
                raise ContextOverflowError(
                    f"a prompt needs {len(ids)} tokens and {limit} fit; raise the context limit or shorten responses"
                )
            half = length // 2
            ids = render(text[:half] + CUT + text[-half:])
        return ids

    def _ids(self, parts: Sequence[Part]) -> list[int]:
        encode = self._encode
        ids: list[int] = []
        for part in parts:
            if part:
                ids += encode(part) if isinstance(part, str) else part
        return ids
