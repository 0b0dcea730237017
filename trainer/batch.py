"""From rollout groups to flat tensors: packed sequences without padding, and which token belongs to which response.

Worked example. One group, one episode of two turns, with prompts P1 = [1, 2], P2 = [1, 2, 7, 8, 3] and responses
R1 = [7, 8], R2 = [9]. Step-wise, every turn is a sequence of its own:

    tokens          1 2 7 8 | 1 2 7 8 3 9          S = 2 sequences, T = 10 tokens
    cu_seqlens      0, 4, 10
    targets         2 3 9                          positions in `tokens` of the N = 3 response tokens
    span_index      0 0 1                          response token -> response (R = 2)
    sequence_index  0 1                            response -> sequence
    episode_index   0 0                            response -> episode
    group_index     0 0                            response -> group

P2 extends P1 + R1, so with `whole_episodes` both turns share one sequence and the prefix is computed once:

    tokens          1 2 7 8 3 9                    S = 1, T = 6
    cu_seqlens      0, 6
    targets         2 3 5
    span_index      0 0 1
    sequence_index  0 0

The logits of a response token come from the position before it, `targets - 1`, which exists because prompts are never
empty. A turn whose prompt does not extend the one before (a window moved, turns were dropped) starts a new sequence in
either layout, so both builders are one function.

(Somewhat over 300 lines: the layout, its worked example and the one thing that builds it belong together.)
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from aem_agent.types import Episode, RolloutGroup, Turn
from trainer.errors import TrainerError


class BatchError(TrainerError):
    """The rollouts cannot be trained on; the message says why."""


@dataclass(frozen=True)
class Batch:
    """Packed sequences and the indices between tokens, responses, episodes and groups; see the worked example above."""

    tokens: Tensor
    """int64 [T]."""
    cu_seqlens: Tensor
    """int64 [S + 1], starts of the sequences and the end."""
    targets: Tensor
    """int64 [N], positions in `tokens` of the response tokens, ordered by response, then by place."""
    span_index: Tensor
    """int64 [N], the response of each response token."""
    sequence_index: Tensor
    """int64 [R], the sequence of each response, never falling: responses lie sequence after sequence."""
    episode_index: Tensor
    """int64 [R], the episode of each response; numbered over the whole batch, also in a selection."""
    group_index: Tensor
    """int64 [R], the rollout group of each response; likewise."""
    old_logprobs: Tensor | None = None
    """float32 [N], log π of the sampled tokens as the sampler recorded them, nats; None unless it recorded all."""
    entropies: Tensor | None = None
    """float32 [N], full-vocabulary token entropies as the sampler recorded them, nats; None unless it recorded all."""
    versions: Tensor | None = None
    """int64 [R], the oldest version of the weights that sampled a token of the response; None for demonstrations."""

    @property
    def n_responses(self) -> int:
        return len(self.sequence_index)

    @property
    def n_sequences(self) -> int:
        return len(self.cu_seqlens) - 1

    @cached_property
    def labels(self) -> Tensor:
        """int64 [N], the response tokens themselves."""
        return self.tokens[self.targets]

    @cached_property
    def response_mask(self) -> Tensor:
        """bool [T], true at response tokens."""
        return torch.zeros_like(self.tokens, dtype=torch.bool).index_fill_(0, self.targets, True)

    @cached_property
    def response_lengths(self) -> Tensor:
        """int64 [R], tokens of each response."""
        return torch.bincount(self.span_index, minlength=self.n_responses)

    @cached_property
    def prompt_ends(self) -> Tensor:
        """int64 [R], position of the last prompt token of each response: where a critic reads the state's value."""
        first = torch.cumsum(self.response_lengths, 0) - self.response_lengths
        return self.targets[first] - 1

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with all tensors on `device`."""
        return replace(self, **_moved(self, device))

    @cached_property
    def _first_response(self) -> Tensor:
        """int64 [S + 1], the first response of each sequence."""
        return _starts(torch.bincount(self.sequence_index, minlength=self.n_sequences))

    @cached_property
    def _first_target(self) -> Tensor:
        """int64 [R + 1], the first response token of each response."""
        return _starts(self.response_lengths)

    def select(self, sequences: Tensor) -> "Part":
        """The batch of the sequences `sequences` (int64 [S']), in that order. Episodes and groups keep their numbers.

        Costs time in proportion to what is selected, not to the whole batch.
        """
        lengths, n_responses = self.cu_seqlens.diff()[sequences], self._first_response.diff()[sequences]
        responses = _ranges(self._first_response[sequences], n_responses)
        n_targets = self.response_lengths[responses]
        targets = _ranges(self._first_target[responses], n_targets)
        cu_seqlens = _starts(lengths)
        places = torch.arange(len(sequences), device=sequences.device).repeat_interleave(n_responses)
        spans = torch.arange(len(responses), device=sequences.device).repeat_interleave(n_targets)
        shift = cu_seqlens[:-1] - self.cu_seqlens[sequences]
        selected = Batch(
            tokens=self.tokens[_ranges(self.cu_seqlens[sequences], lengths)],
            cu_seqlens=cu_seqlens,
            targets=self.targets[targets] + shift[places[spans]],
            span_index=spans,
            sequence_index=places,
            episode_index=self.episode_index[responses],
            group_index=self.group_index[responses],
            old_logprobs=None if self.old_logprobs is None else self.old_logprobs[targets],
            entropies=None if self.entropies is None else self.entropies[targets],
            versions=None if self.versions is None else self.versions[responses],
        )
        return Part(selected, responses, targets)


def _moved(data: Any, device: torch.device | str) -> dict[str, Any]:
    """All tensor fields of a dataclass on `device`."""
    named = ((f.name, getattr(data, f.name)) for f in fields(data))
    return {name: value.to(device) for name, value in named if isinstance(value, Tensor)}


def _starts(lengths: Tensor) -> Tensor:
    """Cumulative lengths with a leading zero: [n] → [n + 1]."""
    return torch.nn.functional.pad(lengths.cumsum(0), (1, 0))


def _ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """start, start + 1, … for each (start, length), one after the other: [n], [n] → [Σ lengths]."""
    offsets = starts - _starts(lengths)[:-1]
    return torch.arange(int(lengths.sum()), device=starts.device) + offsets.repeat_interleave(lengths)


class Part(NamedTuple):
    """A selection of sequences and where its rows lie in the batch it was cut from."""

    batch: Batch
    responses: Tensor
    """int64 [R'], the responses' numbers in the whole batch."""
    targets: Tensor
    """int64 [N'], the response tokens' numbers (0 … N−1) in the whole batch."""


@dataclass(frozen=True)
class Outcomes:
    """What the environment made of the responses: everything advantages need besides the model's scores."""

    returns: Tensor
    """float32 [E], native episode returns (or 1 and 0 for won and not) times the recipe's reward scale."""
    group_of_episode: Tensor
    """int64 [E]."""
    won: Tensor
    """bool [E]."""
    scores: Tensor
    """float32 [E], what the environment says an episode was worth, usually 0 to 1."""
    terminated: Tensor
    """bool [E]; the rest was truncated."""
    rewards: Tensor
    """float32 [R], scaled step rewards."""
    invalid: Tensor
    """bool [R]: no action could be parsed, or the environment refused it."""
    anchors: tuple[str, ...]
    """[R], hash of what the agent could know when it spoke (GiGPO); empty strings where the environment has none."""
    errors: int = 0
    """Episodes that ended in infrastructure errors: in nothing above, so a group's size is what is left of it."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Mean seconds of an episode by phase, where the environment says in `info["seconds"]` what its time went to."""

    def to(self, device: torch.device | str) -> "Outcomes":
        """The same outcomes with all tensors on `device`."""
        return replace(self, **_moved(self, device))


def build(
    groups: Sequence[RolloutGroup],
    *,
    whole_episodes: bool = False,
    reward_scale: float = 1.0,
    rewards: Literal["native", "success"] = "native",
) -> tuple[Batch, Outcomes]:
    """Pack all responses of all completed episodes of `groups`.

    `whole_episodes` joins turns into one sequence while each prompt extends the last prompt and response. With
    `rewards="success"` a won episode's last turn has reward 1, all others 0, whatever the environment gave.

    Raises:
        BatchError: no completed episode, a response without token ids or versions, or an empty prompt.
    """
    episodes = [(g, e) for g, group in enumerate(groups) for e in completed(group)]
    if not episodes:
        raise BatchError(f"no episode was completed: {first_error(groups)}")
    packer = Packer()
    invalid: list[bool] = []
    credited: list[float] = []
    returns: list[float] = []
    anchors: list[str] = []
    for number, (group, episode) in enumerate(episodes):
        for turn in episode.turns:
            packer.add(turn, number, group, join=whole_episodes)
            invalid.append(not (turn.format_valid and turn.action_valid))
        native = [turn.reward for turn in episode.turns]
        mine = native if rewards == "native" else [0.0] * (len(native) - 1) + [float(episode.won)]
        credited += [reward * reward_scale for reward in mine]
        returns.append((episode.return_ if rewards == "native" else float(episode.won)) * reward_scale)
        anchors += _anchors(episode)
    outcomes = Outcomes(
        returns=torch.tensor(returns, dtype=torch.float32),
        group_of_episode=torch.tensor([g for g, _ in episodes]),
        won=torch.tensor([e.won for _, e in episodes]),
        scores=torch.tensor([e.score for _, e in episodes], dtype=torch.float32),
        terminated=torch.tensor([e.terminated for _, e in episodes]),
        rewards=torch.tensor(credited, dtype=torch.float32),
        invalid=torch.tensor(invalid),
        anchors=tuple(anchors),
        errors=sum(not e.completed for g in groups for e in (*g.errored, *g.episodes)),
        seconds=_mean_seconds([episode for _, episode in episodes]),
    )
    return packer.batch(), outcomes


def first_error(groups: Sequence[RolloutGroup]) -> str:
    """What went wrong in the first episode that ended in an infrastructure error."""
    errors = (e.error for g in groups for e in (*g.errored, *g.episodes) if e.error is not None)
    return f"all ended in infrastructure errors, the first in {next(errors, 'none: nothing was played')}"


def completed(group: RolloutGroup) -> list[Episode]:
    """The episodes of a group that a batch is made of, in order."""
    return [e for e in group.episodes if e.completed and e.turns]


def _anchors(episode: Episode) -> list[str]:
    """The anchor *before* each turn: `info` belongs to the state after it, so turn t takes that of turn t − 1, and the
    first the reset's; where that is not known the task stands for it."""
    after = [str(turn.info.get("anchor") or "") for turn in episode.turns]
    return [episode.start_anchor or f"reset:{episode.task_id}", *after[:-1]]


def _mean_seconds(episodes: Sequence[Episode]) -> dict[str, float]:
    """Seconds by phase, summed over an episode's turns, then the mean over all episodes."""
    total: Counter[str] = Counter()
    for episode in episodes:
        for turn in episode.turns:
            for phase, seconds in (turn.info.get("seconds") or {}).items():
                total[phase] += seconds
    return {phase: seconds / len(episodes) for phase, seconds in sorted(total.items())}


class Packer:
    """Lays turns end to end; `batch()` makes the tensors."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.starts: list[int] = []
        self.targets: list[int] = []
        self.spans: list[int] = []
        self.sequence: list[int] = []
        self.episode: list[int] = []
        self.group: list[int] = []
        self.logprobs: list[float] | None = []
        self.entropies: list[float] | None = []
        self.versions: list[int] = []
        self._open: int | None = None

    def add(self, turn: Turn, episode: int, group: int, *, join: bool) -> None:
        """Append one turn; with `join` to the sequence of the episode's last turn, if its prompt extends it."""
        if not turn.prompt_token_ids or not turn.response.token_ids:
            raise BatchError("a turn has no token ids: only token engines (engine torch) record training data")
        if not turn.response.policy_versions:
            raise BatchError(
                "a response does not say which weights sampled it: the engine must fill `policy_versions`, such as "
                "((0, version),)"
            )
        self.prompt(turn.prompt_token_ids, episode, join=join)
        self.response(turn.response.token_ids, episode, group)
        self.logprobs = _extended(self.logprobs, turn.response.logprobs)
        self.entropies = _extended(self.entropies, turn.response.entropies)
        self.versions.append(min(version for _, version in turn.response.policy_versions))

    def prompt(self, ids: Sequence[int], episode: int, *, join: bool) -> None:
        """Start a new sequence, or go on with the last one where `ids` extends it."""
        prompt = list(ids)
        running = self.tokens[self.starts[-1] :] if join and self.starts and self._open == episode else None
        if running and prompt[: len(running)] == running:
            self.tokens += prompt[len(running) :]
        else:
            self.starts.append(len(self.tokens))
            self.tokens += prompt
        self._open = episode

    def response(self, ids: Sequence[int], episode: int, group: int, *, target: bool = True) -> None:
        """Append what was said. Without `target` the tokens are context only, and no response is counted."""
        if target:
            self.mark(len(self.tokens), len(ids), episode, group)
        self.tokens += ids

    def mark(self, start: int, length: int, episode: int, group: int) -> None:
        """Make the tokens from `start` on a response: they are to be predicted."""
        self.targets += range(start, start + length)
        self.spans += [len(self.sequence)] * length
        self.sequence.append(len(self.starts) - 1)
        self.episode.append(episode)
        self.group.append(group)

    def batch(self) -> Batch:
        return Batch(
            tokens=torch.tensor(self.tokens),
            cu_seqlens=torch.tensor([*self.starts, len(self.tokens)]),
            targets=torch.tensor(self.targets),
            span_index=torch.tensor(self.spans),
            sequence_index=torch.tensor(self.sequence),
            episode_index=torch.tensor(self.episode),
            group_index=torch.tensor(self.group),
            old_logprobs=_recorded(self.logprobs, len(self.targets)),
            entropies=_recorded(self.entropies, len(self.targets)),
            versions=torch.tensor(self.versions) if self.versions else None,
        )


def _extended(values: list[float] | None, more: Iterable[float] | None) -> list[float] | None:
    """`values + more`, or None for good once a response lacks them."""
    if values is None or more is None:
        return None
    values.extend(more)
    return values


def _recorded(values: list[float] | None, n: int) -> Tensor | None:
    return torch.tensor(values, dtype=torch.float32) if values is not None and len(values) == n else None
