"""Batched sampling: prompts of any length, one random stream per request, log-probs and entropies as tokens are drawn.

A request's draws come from a hash of (its seed, token number), so they do not depend on what else is in the batch.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aem_agent.model.conversations import Conversation, Conversations
from aem_agent.model.interface import Continuing, LanguageModel
from aem_agent.types import FinishReason, GenerateRequest, Response, Sampling, TokenizerLike

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def uniforms(seeds: Sequence[int], start: int, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Float[n, count] in (0, 1): numbers `start` … of each seed's stream (SplitMix64, 48 bits: none rounds to 1)."""
    base = np.array([(s * 0xD1342543DE82EF95 + _GOLDEN) & _MASK for s in seeds], dtype=np.uint64)
    steps = np.arange(start + 1, start + count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    x = _mix(_mix(base)[:, None] + steps)
    return ((x >> np.uint64(16)).astype(np.float64) + 0.5) * 2.0**-48


def _mix(x: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Draw:
    """Draws one token for each running row."""

    def __init__(self, samplings: Sequence[Sampling], device: torch.device) -> None:
        greedy = [s.temperature <= 0 for s in samplings]
        self.greedy = torch.tensor(greedy, device=device)
        self.any_greedy, self.all_greedy = any(greedy), all(greedy)
        self.unit = all(s.temperature in (0, 1) for s in samplings)
        self.scale = torch.tensor([1 / s.temperature if s.temperature > 0 else 1.0 for s in samplings], device=device)
        self.top_p = torch.tensor([s.top_p for s in samplings], device=device)
        self.any_top_p = any(s.top_p < 1 for s in samplings)
        self.entropies = any(s.entropies for s in samplings)

    def keep(self, rows: Tensor) -> None:
        """Carry on with these rows (Long[m])."""
        self.greedy, self.scale, self.top_p = self.greedy[rows], self.scale[rows], self.top_p[rows]

    def __call__(self, logits: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Logits Float[n, V], uniforms Float64[n] → tokens Long[n], their log-probs, and entropies in nats.

        Log-probs and entropies are of the full distribution at the sampling temperature, before any top-p cut.
        """
        logits = logits.float()
        logp = (logits if self.unit else logits * self.scale[:, None]).log_softmax(-1)
        p = logp.exp() if self.entropies or not self.all_greedy else None
        if p is None or self.all_greedy:
            tokens = logits.argmax(-1)
        else:
            tokens = _inverse_cdf(_cut(p, self.top_p) if self.any_top_p else p, uniform)
            if self.any_greedy:
                tokens = torch.where(self.greedy, logits.argmax(-1), tokens)
        entropies = None
        if p is not None and self.entropies:
            entropies = -(p * logp.clamp(min=torch.finfo(logp.dtype).min)).sum(-1)
        return tokens, logp.gather(1, tokens[:, None])[:, 0], entropies


def _inverse_cdf(p: Tensor, uniform: Tensor) -> Tensor:
    """The token whose share of the cumulative distribution holds the uniform number; never one of probability 0."""
    cdf = p.double().cumsum(-1)
    return torch.searchsorted(cdf, (uniform * cdf[:, -1])[:, None], right=True)[:, 0]


def _cut(p: Tensor, top_p: Tensor) -> Tensor:
    """Zero all but the likeliest tokens that together reach `top_p` (the one that crosses it stays)."""
    ordered, order = p.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    kept = ordered.masked_fill((before >= top_p[:, None]) & (top_p < 1)[:, None], 0.0)
    return torch.zeros_like(p).scatter_(1, order, kept)


class _Row:
    """One running request."""

    __slots__ = ("conversation", "entropies", "finish", "ids", "limit", "logprobs", "request", "stop", "stop_ids")

    def __init__(self, request: GenerateRequest, conversation: Conversation | None, eos: int) -> None:
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
        self._pieces: dict[int, str] = {}

    @torch.inference_mode()
    def __call__(self, requests: Sequence[GenerateRequest], version: int = 0) -> list[Response]:
        """One response per request, in order; finished rows leave the batch. Raises `ContextOverflowError`."""
        device, model = self.model.device, self.model
        rows = self._rows(requests)
        running = sorted(rows, key=lambda row: row.conversation is None or not row.conversation.base)
        limit = max(row.limit for row in rows)
        hidden, cache = self._prefill(running, limit)
        draw = Draw([row.request.sampling for row in running], device)
        uniform = torch.from_numpy(uniforms([row.request.seed for row in running], 0, limit)).to(device)
        for step in range(limit):
            tokens, logprobs, entropies = draw(model.head(hidden), uniform[:, step])
            done = self._record(running, tokens, logprobs, entropies)
            self._keep(running, done, cache)
            if len(done) == len(running):
                break
            if done:
                order = cache.drop(done)
                places = torch.tensor(order, device=device)
                running = [running[i] for i in order]
                tokens, uniform = tokens[places], uniform[places]
                draw.keep(places)
            hidden = model.step(tokens, cache)
        return [self._response(row, version) for row in rows]

    def _rows(self, requests: Sequence[GenerateRequest]) -> list[_Row]:
        found: Sequence[Conversation | None] = [None] * len(requests)
        if self.conversations is not None and any(r.conversation is not None for r in requests):
            found = self.conversations.match(requests, self.model)
        eos = self.tokenizer.eos_token_id
        return [_Row(request, conversation, eos) for request, conversation in zip(requests, found, strict=True)]

    def _prefill(self, rows: Sequence[_Row], limit: int) -> tuple[Tensor, Any]:
        """Hidden states of the last prompt tokens and the running cache; rows that continue something come first."""
        device, model = self.model.device, self.model
        talks = [row.conversation for row in rows]
        bases = [0 if talk is None else talk.base for talk in talks]
        flat = [t for row, base in zip(rows, bases, strict=True) for t in row.request.prompt_token_ids[base:]]
        sizes = [len(row.request.prompt_token_ids) - base for row, base in zip(rows, bases, strict=True)]
        cu = torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)).to(device)
        tokens = torch.tensor(flat, device=device)
        if self.conversations is None or not any(talks) or not isinstance(model, Continuing):
            return model.prefill(tokens, cu, limit)
        kept = [talk.kv[:, :, : talk.base] for talk in talks if talk is not None and talk.kv is not None and talk.base]
        return model.extend(kept, tokens, cu, limit, self.conversations.room)

    def _keep(self, running: Sequence[_Row], done: Sequence[int], cache: Any) -> None:
        """Hand what finished rows leave behind to their conversations, before others take their places."""
        if self.conversations is not None:
            for i in done:
                row = running[i]
                if row.conversation is not None:
                    self.conversations.keep(row.request, row.conversation, row.ids, cache, i)

    def _record(self, rows: list[_Row], tokens: Tensor, logprobs: Tensor, entropies: Tensor | None) -> list[int]:
        """Note what was drawn; returns the places of rows that are finished."""
        done = []
        ids, logs = tokens.tolist(), logprobs.tolist()
        ents = entropies.tolist() if entropies is not None else logs
        for i, (row, token, logprob, entropy) in enumerate(zip(rows, ids, logs, ents, strict=True)):
            row.ids.append(token)
            row.logprobs.append(logprob)
            row.entropies.append(entropy)
            if token in row.stop_ids or (row.stop and self._stopped(row)):
                row.finish = "stop"
                done.append(i)
            elif len(row.ids) >= row.limit:
                done.append(i)
        return done

    def _stopped(self, row: _Row) -> bool:
        """A stop string ends in the newest token: only one that holds the string's last letter can have ended it.

        A space may come from the decoder instead, and a letter beyond ASCII from several tokens."""
        piece = self._pieces.get(row.ids[-1])
        if piece is None:
            piece = self._pieces[row.ids[-1]] = self.tokenizer.decode(row.ids[-1:])
        if all(s[-1].isascii() and s[-1] != " " and s[-1] not in piece for s in row.stop):
            return False
        text = self.tokenizer.decode(row.ids)
        return any(s in text for s in row.stop)

    def _response(self, row: _Row, version: int) -> Response:
        return Response(
            text=self.tokenizer.decode(row.ids),
            token_ids=tuple(row.ids),
            logprobs=tuple(row.logprobs),
            entropies=tuple(row.entropies) if row.request.sampling.entropies else None,
            finish_reason=row.finish,
            policy_versions=((0, version),),
        )
