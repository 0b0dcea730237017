"""Core types of the agent room: what a response, a turn, an episode and a group are, and what engines and policies
must do.

No torch here. Everything is plain data, so that a record can be written as one JSON line and read back equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

FinishReason = Literal["stop", "length", "error"]

Message = dict[str, str]
"""{"role": "system" | "user" | "assistant", "content": text}, as chat endpoints take it."""


class AgentError(Exception):
    """Base of all errors of the agent room. The message says what to do next."""


class EngineError(AgentError):
    """An engine failed or returned something malformed; the rollout manager may retry the episode."""


class WeightParityError(EngineError):
    """After a weight sync the engine's log-probs differ from the trainer's: it would sample from another policy."""


class TrainingNeedsTokensError(AgentError):
    """A text engine was asked to produce training data: only token engines record what was sampled."""


class RolloutInterruptedError(AgentError):
    """A run was stopped before all episodes were played. `groups` holds those that were."""

    def __init__(self, groups: "Sequence[RolloutGroup]") -> None:
        self.groups = tuple(groups)
        played = sum(len(g.episodes) for g in self.groups)
        super().__init__(f"interrupted after {played} completed episodes; resume the run to play the rest")


class ContextOverflowError(AgentError):
    """A prompt cannot be made to fit even after the prompt spec's overflow rule."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw a response."""

    temperature: float = 1.0
    """0 (greedy) or at least 1e-4. Log-probs and entropies are reported at this temperature (at 1 when greedy)."""
    top_p: float = 1.0
    """Above 0, at most 1."""
    max_new_tokens: int = 64
    stop: tuple[str, ...] = ()
    """Stop strings, none empty; the matched string is kept in the text and its tokens in the ids."""
    stop_token_ids: tuple[int, ...] = ()
    entropies: bool = False
    """Ask for full-vocabulary token entropies, where the engine can give them."""


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One response to draw."""

    prompt_token_ids: tuple[int, ...]
    sampling: Sampling
    seed: int
    """Seed of this response's own random stream: one per (run seed, task, repeat, turn)."""
    conversation: int | None = None
    """Requests of one conversation usually extend one another, and an engine may keep what it computed for it;
    token ids decide: a wrong or reused number costs time, never correctness."""


@dataclass(frozen=True, slots=True)
class Response:
    """What a policy said in one turn."""

    text: str
    token_ids: tuple[int, ...] = ()
    """Exactly the ids that were sampled, the end token included; empty for policies without tokens."""
    logprobs: tuple[float, ...] | None = None
    """log π of each sampled token at the sampling temperature, nats."""
    entropies: tuple[float, ...] | None = None
    """Full-vocabulary entropy of each token's distribution at the sampling temperature, nats; None where the engine
    cannot say.
    """
    finish_reason: FinishReason = "stop"
    policy_versions: tuple[tuple[int, int], ...] = ((0, 0),)
    """(first token, weights version) ranges, in order: more than one when weights changed during the response."""
    usage: tuple[int, int] | None = None
    """Tokens of prompt and response where only an endpoint knows them, as it counts them; None if it does not say, and
    for token engines, whose ids can be counted.
    """
    cost: float | None = None
    """US dollars, where an endpoint says what the response took."""


@dataclass(slots=True)  # not frozen: one is made at every environment step, and a frozen one takes four times as long
class Turn:
    """One step of an episode: what was seen, said, done, and what came back. Treat it as immutable."""

    observation: str
    """What the policy saw last before it spoke."""
    response: Response
    action: str
    """What was sent to the environment."""
    prompt_token_ids: tuple[int, ...] = ()
    format_valid: bool = True
    """The parser found an action in the response."""
    format_error: str | None = None
    """The parser's typed reason if it did not."""
    action_valid: bool = True
    """The environment accepted the action (from `info`)."""
    reward: float = 0.0
    """Native reward of this step."""
    info: dict[str, Any] = field(default_factory=dict)
    """The few entries of the environment's `info` after this step worth keeping: score, won, anchor, action_error, and
    where they are not empty details and seconds. A training run that records its episodes adds `training`, what it made
    of this turn (`trainer/recordings.py`)."""
    dropped_turns: int = 0
    """Turns that the overflow rule left out of this prompt."""


TruncationReason = str


@dataclass(frozen=True, slots=True)
class Episode:
    """One attempt at one task. `terminated`, `truncated` and `error` are three different things."""

    env_id: str
    task_id: str
    task_type: str
    split: str
    repeat: int
    """Which attempt at the task, counted from 0."""
    seed: int
    """Seed of this episode: derived from (run seed, task id, repeat)."""
    turns: tuple[Turn, ...] = ()
    final_observation: str = ""
    terminated: bool = False
    truncated: bool = False
    truncation_reason: TruncationReason | None = None
    error: str | None = None
    """"ErrorType: message" of an infrastructure failure that outlived its retries; such an episode is neither
    success nor failure.
    """
    return_: float = 0.0
    """Sum of native rewards, unshaped."""
    won: bool = False
    score: float = 0.0
    retries: int = 0
    seconds: float = 0.0
    """Wall time; not part of an episode's identity (`identity()` leaves it out)."""
    data_hash: str = ""
    engine: str = ""
    start_anchor: str = ""
    """`info["anchor"]` of the reset, the state of the first turn; empty in records of earlier versions."""

    def identity(self) -> "Episode":
        """The episode without what may differ between two identical runs."""
        turns = tuple(
            replace(t, info={k: v for k, v in t.info.items() if k != "seconds"}) if "seconds" in t.info else t
            for t in self.turns
        )
        return replace(self, turns=turns, seconds=0.0, retries=0)

    @property
    def completed(self) -> bool:
        """Ended by itself or by a limit, not by an infrastructure error."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class TaskRef:
    """A task to be played."""

    env_id: str
    task_id: str
    split: str


@dataclass(frozen=True, slots=True)
class RolloutGroup:
    """The G episodes of one task. Errored ones are kept apart and count neither as success nor as failure."""

    task: TaskRef
    episodes: tuple[Episode, ...]
    errored: tuple[Episode, ...] = ()


Running = Literal["wait", "keep"]
"""Of requests in flight at a weight update: they are finished first under the old weights, or go on under the new ones
(partial rollouts: their `policy_versions` then have two ranges)."""


@runtime_checkable
class TokenEngine(Protocol):
    """Token ids in, token ids out. The only kind of engine one can train with."""

    version: int
    """Counts `load_weights` calls."""

    async def generate(self, request: GenerateRequest) -> Response:
        """Draw one response. Requests awaited at the same time are batched. Raises `EngineError`."""
        ...

    async def load_weights(self, state: Any, *, running: Running = "wait") -> None:
        """Take new weights (a `LanguageModel` or its state dict), bump `version`, and assert log-prob parity.

        `running` says what becomes of requests in flight; those that come meanwhile wait in either case. Raises
        `WeightParityError` if the engine would sample from another policy than the one handed over.
        """
        ...

    async def aclose(self) -> None: ...


@runtime_checkable
class LocalEngine(TokenEngine, Protocol):
    """A token engine made from a model folder: what `aem-eval run --engine` takes."""

    @property
    def tokenizer(self) -> "TokenizerLike": ...

    @property
    def max_positions(self) -> int:
        """Tokens that prompt and response may have together."""
        ...

    @classmethod
    def load(cls, folder: Path, *, device: str, max_batch: int) -> "LocalEngine":
        """The model in `folder` on a device ("cpu", "cuda", …), for up to `max_batch` requests at once."""
        ...


@runtime_checkable
class TextEngine(Protocol):
    """Messages in, text out (chat endpoints). Evaluation only."""

    async def chat(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Response:
        """One reply. Raises `EngineError`."""
        ...

    async def aclose(self) -> None: ...


class TokenizerLike(Protocol):
    """What prompts need of a tokenizer."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    @property
    def eos_token_id(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy answers to one observation: the response, the action parsed from it, and how parsing went."""

    response: Response
    action: str
    prompt_token_ids: tuple[int, ...] = ()
    format_valid: bool = True
    format_error: str | None = None
    dropped_turns: int = 0


class EpisodePolicy(Protocol):
    """A policy within one episode; it may keep a memory."""

    async def act(self, observation: str, info: dict[str, Any]) -> Decision:
        """Answer the newest observation. Called once per turn, in order."""
        ...


class Policy(Protocol):
    """Makes one `EpisodePolicy` per episode. Shared by all episodes of a run.

    A policy whose episodes read the environment sets `needs_env = True` (else taken as False): it then runs in the
    environment's process, and must be picklable where that is another one.
    """

    name: str
    trainable: bool
    """Its responses carry the sampled token ids, so that one can train on them."""

    def start(self, env: Any, task: TaskRef, seed: int) -> EpisodePolicy:
        """`env` is the unwrapped environment, for experts that may read its state; it may be None for a policy without
        `needs_env`."""
        ...

    async def aclose(self) -> None: ...
