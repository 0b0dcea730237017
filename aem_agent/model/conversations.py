"""What conversations leave behind: keys and values of earlier turns, so that a prompt that extends them costs only what
is new in it.

Token ids decide what may be reused, so a number given to two conversations costs time, never correctness. Everything
is forgotten as soon as a parameter is replaced or written to.

What was reused shows in the last bits of log-probs: a piece behind kept values is computed in another shape than the
whole. So episodes repeat bit for bit in an engine that has played them before if each has a number that was never used,
as `ModelPolicy` gives them, or after `clear`. Under a number used again they do so only while every prompt extends the
one before: the first is then computed afresh, since it adds nothing to what is kept. With windows of history a later
prompt may continue what the former episode left.
"""

from collections.abc import Collection, Sequence
from typing import cast

import torch
from torch import Tensor

from aem_agent.model.cache import KVCache
from aem_agent.model.interface import LanguageModel
from aem_agent.types import GenerateRequest

WORTH_REUSING = 0.25
"""Share of a prompt that must be kept for it to be continued. Below, copying costs what computing would: packing shares
beginnings too. Measured with windows of history over heads of a quarter to a half of the prompt."""

LONGEST_PIECE = 256
"""Most new tokens of a continued prompt: rows are padded to the longest piece."""

SAMPLED_VALUES = 64
"""Values of each parameter that are compared before every batch, about."""


class Conversation:
    """One conversation's tokens and, if they are likely to be extended, their keys and values."""

    __slots__ = ("base", "edition", "ids", "kv", "length", "nbytes", "saved")

    def __init__(self, edition: int) -> None:
        self.edition = edition
        """Of the weights: what began under others is not kept."""
        self.ids: tuple[int, ...] = ()
        self.kv: Tensor | None = None
        """Float[2 · layers, KV, capacity, hd]."""
        self.length = 0
        """Tokens in `kv`: the first of `ids`."""
        self.base = 0
        """Of these, what the running request continues."""
        self.saved = True
        """The running request's keys and values are worth keeping."""
        self.nbytes = 0


class Conversations:
    """Keeps conversations within a budget of bytes; the longest unused go first."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.nbytes = 0
        """Bytes in use."""
        self.edition = 0
        """Counts how often everything was forgotten."""
        self._of: dict[int, Conversation] = {}
        self._stamp: tuple[list[tuple[int, int]], Tensor] | None = None

    def __len__(self) -> int:
        return len(self._of)

    def clear(self) -> None:
        """Forget everything."""
        self._of.clear()
        self.nbytes, self._stamp = 0, None
        self.edition += 1

    def match(
        self, requests: Sequence[GenerateRequest], model: LanguageModel, running: Collection[int] = ()
    ) -> list[Conversation | None]:
        """The conversation of each request, `base` and `saved` set; of several of one conversation the first has it,
        and none of one that is among the running."""
        stamp = _stamp(model)
        if self._stamp is None or stamp[0] != self._stamp[0] or not torch.equal(stamp[1], self._stamp[1]):
            self.clear()
            self._stamp = stamp
        seen = set(running)
        found: list[Conversation | None] = []
        for request in requests:
            number = request.conversation
            if number is None or number in seen:
                found.append(None)
                continue
            seen.add(number)
            conversation = self._of.get(number) or Conversation(self.edition)
            self._judge(conversation, request.prompt_token_ids)
            found.append(conversation)
        return found

    def _judge(self, conversation: Conversation, prompt: tuple[int, ...]) -> None:
        common = _common(conversation.ids, prompt)
        again = common == len(prompt)
        extended = common >= WORTH_REUSING * len(prompt) and len(prompt) - common <= LONGEST_PIECE
        conversation.saved = again or extended or not conversation.ids
        conversation.base = 0 if again or not extended else min(common, conversation.length)

    def keep(
        self, request: GenerateRequest, conversation: Conversation, said: Sequence[int], cache: KVCache, row: int
    ) -> None:
        """Note a finished request, whose tokens but for the last one said lie in a row of the running cache."""
        if conversation.edition != self.edition:
            return
        number = cast(int, request.conversation)
        former = self._of.pop(number, None)
        if former is not None:
            self.nbytes -= former.nbytes
        ids, kv = (*request.prompt_token_ids, *said), conversation.kv
        length = len(ids) - 1
        if not conversation.saved:
            kv, length = None, 0
        else:
            base = conversation.base
            if kv is None or kv.shape[2] < length:
                layers, _, heads, _, head_dim = cache.kv.shape
                kv, base = cache.kv.new_empty(layers, heads, length + length // 2 + 32, head_dim), 0
            kv[:, :, base:length] = cache.kv[:, row, :, base:length]
        conversation.ids, conversation.kv, conversation.length = ids, kv, length
        conversation.nbytes = 8 * len(ids) + (0 if kv is None else kv.nbytes)
        self._of[number] = conversation
        self.nbytes += conversation.nbytes
        while self.nbytes > self.budget:
            self.nbytes -= self._of.pop(next(iter(self._of))).nbytes


def _stamp(model: LanguageModel) -> tuple[list[tuple[int, int]], Tensor]:
    """Changes with the parameters: their version counters, and, since fused optimisers and writes through `.data` leave
    those alone, some values of each."""
    parameters = list(model.parameters())
    some = [p.detach().reshape(-1)[:: p.numel() // SAMPLED_VALUES + 1] for p in parameters]
    return [(p.data_ptr(), p._version) for p in parameters], torch.cat(some)


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Length of the common beginning."""
    if b[: len(a)] == a:
        return len(a)
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
