"""Batched sampling: a running batch that requests join and leave, each row with its own prompt, stream and stops.

    rows = sampler.admit(requests)      prompts are computed; the new rows take places behind the running ones
    finished = sampler.draw()           one token for every row; finished rows leave their places
    sampler.leave(rows)                 cancelled ones leave theirs

What was drawn is fed to the model at the next call that needs its outcome, so rows that left in between cost nothing.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aem_agent.model.conversations import Conversation, Conversations
from aem_agent.model.draw import Draw, Streams
from aem_agent.model.interface import Continuing, LanguageModel
from aem_agent.types import ContextOverflowError, EngineError, FinishReason, GenerateRequest, Response, TokenizerLike

UNSURE = 8
"""Letters at the beginning of a decoded tail that may differ from the whole text's: a space that is left out, parts of
a letter beyond ASCII."""


def check_fits(request: GenerateRequest, limit: int) -> None:
    """Raises `ContextOverflowError` when prompt and response may exceed a model's positions."""
    prompt, new = len(request.prompt_token_ids), request.sampling.max_new_tokens
    if prompt + new > limit:
        raise ContextOverflowError(
            f"prompt of {prompt} tokens and {new} new ones, the model takes {limit}: shorten the history"
        )


class Row:
    """One running request."""

    __slots__ = (
        "conversation",
        "entropies",
        "finish",
        "ids",
        "limit",
        "logprobs",
        "request",
        "stop",
        "stop_ids",
        "versions",
    )

    def __init__(self, request: GenerateRequest, conversation: Conversation | None, eos: int, version: int) -> None:
        sampling = request.sampling
        self.request = request
        self.conversation = conversation
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.entropies: list[float] = []
        self.finish: FinishReason = "length"
        self.limit = sampling.max_new_tokens
        self.stop = sampling.stop
        self.stop_ids = {eos, *sampling.stop_token_ids}
        self.versions = [(0, version)]

    def now_under(self, version: int) -> None:
        """The tokens from here on are drawn under other weights."""
        if self.versions[-1][0] == len(self.ids):
            self.versions.pop()
        self.versions.append((len(self.ids), version))


class Sampler:
    """Generates with a model and its tokenizer.

    With `conversations` (for models of the `Continuing` kind), prompts that extend an earlier one of the same
    conversation cost only what is new in them.
    """

    def __init__(
        self, model: LanguageModel, tokenizer: TokenizerLike, conversations: Conversations | None = None
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.conversations = conversations if isinstance(model, Continuing) else None
        self.rows: list[Row] = []
        """Those that run, in the order of their places."""
        self._pieces: dict[int, str] = {}
        self._cache: Any = None
        self._hidden: Tensor | None = None
        """Float[n, d] to draw from, unless tokens are still to be fed."""
        self._drawn: Tensor | None = None
        """Long[n] to be fed."""
        self._draw: Draw | None = None
        self._streams: Streams | None = None

    @property
    def joins(self) -> bool:
        """Whether rows can be admitted now: some models of transformers cannot while others run."""
        return not self.rows or self._cache is None or bool(self._cache.joins)

    def __call__(self, requests: Sequence[GenerateRequest], version: int = 0) -> list[Response]:
        """One response per request, in order, with nothing else running. Raises `ContextOverflowError`."""
        rows = self.admit(requests, version)
        while self.rows:
            self.draw()
        return [self.response(row) for row in rows]

    @torch.inference_mode()
    def admit(self, requests: Sequence[GenerateRequest], version: int = 0) -> list[Row]:
        """Add a row for each request. Raises `ContextOverflowError`, and then nothing has changed."""
        for request in requests:
            check_fits(request, self.model.max_positions)
        self._feed()
        rows = self._new_rows(requests, version)
        joining = sorted(rows, key=lambda row: row.conversation is None or not row.conversation.base)
        hidden = self._prefill(joining)
        self._hidden = hidden if self._hidden is None else torch.cat([self._hidden, hidden])
        self.rows += joining
        self._draw = self._streams = None
        return rows

    @torch.inference_mode()
    def draw(self) -> list[Row]:
        """Draw a token for every row; returns the rows that are finished, which have left.

        Raises `EngineError` when a log-prob is not finite. What else runs cannot go on then: `clear`.
        """
        if not self.rows:
            return []
        self._feed()
        assert self._hidden is not None
        if self._draw is None:
            self._draw = Draw([row.request.sampling for row in self.rows], self.model.device)
        if self._streams is None or not self._streams.left:
            seeds, drawn = [row.request.seed for row in self.rows], [len(row.ids) for row in self.rows]
            self._streams = Streams(seeds, drawn, self.model.device)
        tokens, logprobs, entropies = self._draw(self.model.head(self._hidden), self._streams.take())
        self._hidden, self._drawn = None, tokens
        places = self._record(tokens, logprobs, entropies)
        finished = [self.rows[i] for i in places]
        self._keep(places)
        self._drop(places)
        return finished

    @torch.inference_mode()
    def leave(self, rows: Sequence[Row]) -> None:
        """Take rows out that nobody waits for any more."""
        gone = set(rows)
        self._drop([i for i, row in enumerate(self.rows) if row in gone])

    @torch.inference_mode()
    def recompute(self, version: int) -> None:
        """Go on under changed weights: keys and values of prompts and of what was said are computed anew."""
        rows = self.rows
        if not rows:
            return
        self._forget_batch()
        for row in rows:
            row.now_under(version)
            row.conversation = None
        self._hidden = self._prefill(rows)
        self.rows = rows

    def clear(self) -> None:
        """Drop all rows, whatever state they are in, and give the memory of their keys and values back."""
        self._forget_batch()
        self._cache = None

    def response(self, row: Row) -> Response:
        """What a finished row said."""
        return Response(
            text=self.tokenizer.decode(row.ids),
            token_ids=tuple(row.ids),
            logprobs=tuple(row.logprobs),
            entropies=tuple(row.entropies) if row.request.sampling.entropies else None,
            finish_reason=row.finish,
            policy_versions=tuple(row.versions),
        )

    def _forget_batch(self) -> None:
        self.rows = []
        self._hidden = self._drawn = self._draw = self._streams = None
        if isinstance(self.model, Continuing) and self._cache is not None:
            self._cache.clear()
        else:
            self._cache = None

    def _feed(self) -> None:
        """Let the model see what was drawn."""
        if self._drawn is not None:
            tokens, self._drawn = self._drawn, None
            self._hidden = self.model.step(tokens, self._cache)

    def _new_rows(self, requests: Sequence[GenerateRequest], version: int) -> list[Row]:
        found: Sequence[Conversation | None] = [None] * len(requests)
        if self.conversations is not None and any(r.conversation is not None for r in requests):
            running = [n for row in self.rows if (n := row.request.conversation) is not None]
            found = self.conversations.match(requests, self.model, running)
        eos = self.tokenizer.eos_token_id
        return [Row(request, talk, eos, version) for request, talk in zip(requests, found, strict=True)]

    def _prefill(self, rows: Sequence[Row]) -> Tensor:
        """Hidden states of the last tokens of rows that join; those that continue something come first."""
        device, model = self.model.device, self.model
        kept = [c.kv[:, :, : c.base] for row in rows if (c := row.conversation) and c.kv is not None and c.base]
        bases = [kv.shape[2] for kv in kept] + [0] * (len(rows) - len(kept))
        shown = [(*row.request.prompt_token_ids, *row.ids)[base:] for row, base in zip(rows, bases, strict=True)]
        cu = torch.from_numpy(np.cumsum([0, *map(len, shown)]).astype(np.int32)).to(device)
        tokens = torch.tensor([t for ids in shown for t in ids], device=device)
        new = [row.limit - len(row.ids) for row in rows]
        if isinstance(model, Continuing):
            self._cache = self._cache or model.new_cache()
            return model.extend(kept, tokens, cu, new, self._cache)
        hidden, cache = model.prefill(tokens, cu, max(new))
        if self._cache is None:
            self._cache = cache
        else:
            self._cache.join(cache)
        return hidden

    def _keep(self, places: Sequence[int]) -> None:
        """Hand what finished rows leave behind to their conversations, before others take their places."""
        if self.conversations is not None:
            for i in places:
                row = self.rows[i]
                if row.conversation is not None:
                    self.conversations.keep(row.request, row.conversation, row.ids, self._cache, i)

    def _drop(self, places: Sequence[int]) -> None:
        if len(places) == len(self.rows):
            self._forget_batch()
        elif places:
            order = self._cache.drop(places)
            self.rows = [self.rows[i] for i in order]
            index = torch.tensor(order, device=self.model.device)
            if self._drawn is not None:
                self._drawn = self._drawn[index]
            if self._hidden is not None:
                self._hidden = self._hidden[index]
            for per_row in (self._draw, self._streams):
                if per_row is not None:
                    per_row.keep(index)

    def _record(self, tokens: Tensor, logprobs: Tensor, entropies: Tensor | None) -> list[int]:
        """Note what was drawn; returns the places of rows that are finished."""
        done = []
        ids, logs = tokens.tolist(), logprobs.tolist()
        if not math.isfinite(sum(logs)):  # one test for all rows: NaN and infinities spread
            raise EngineError(
                "the model's logits are not finite: its weights diverged (lower the learning rate) or are damaged"
            )
        ents = entropies.tolist() if entropies is not None else logs
        for i, (row, token, logprob, entropy) in enumerate(zip(self.rows, ids, logs, ents, strict=True)):
            row.ids.append(token)
            row.logprobs.append(logprob)
            row.entropies.append(entropy)
            if token in row.stop_ids or (row.stop and self._stopped(row)):
                row.finish = "stop"
                done.append(i)
            elif len(row.ids) >= row.limit:
                done.append(i)
        return done

    def _stopped(self, row: Row) -> bool:
        """A stop string ends in the newest token: only one that holds the string's last letter can have ended it.

        A space may come from the decoder instead, and a letter beyond ASCII from several tokens."""
        piece = self._pieces.get(row.ids[-1])
        if piece is None:
            piece = self._pieces[row.ids[-1]] = self.tokenizer.decode(row.ids[-1:])
        if all(s[-1].isascii() and s[-1] != " " and s[-1] not in piece for s in row.stop):
            return False
        return self._holds_stop(row)

    def _holds_stop(self, row: Row) -> bool:
        """Looks at the end of the text, so that the cost of a token does not grow with the answer."""
        ids, letters = row.ids, max(map(len, row.stop)) + UNSURE
        count, tail = letters, self.tokenizer.decode(ids[-letters:])
        while len(tail) < letters and count < len(ids):
            count *= 2
            tail = self.tokenizer.decode(ids[-count:])
        if not any(s in tail for s in row.stop):
            return False
        text = tail if count >= len(ids) else self.tokenizer.decode(ids)
        return any(s in text for s in row.stop)
