"""Our environments in TRL's GRPOTrainer: `GRPOTrainer(…, rollout_func=EnvRollout("aem/ALFWorld-v0"))`.

A prompt of TRL's dataset is a task's id; a completion is the whole episode after its first prompt:

    prompt_ids      [first prompt]
    completion_ids  [response 1][seen][response 2][seen] … [response n][end]
    env_mask         1 …  …  1   0…0   1 …  …  1   0…0      1 …  …  1    0

Responses are the ids that were sampled, by TRL's own model at its temperature; what was sampled is never encoded again.
What the environment said has mask 0. So has the end token, which was not sampled: it closes an episode that ended by
itself. One that did not, but whose last response ends in such a token, is followed by another one, with mask 0 too. So
TRL, which looks at the last id, counts, and with `mask_truncated_completions` leaves out, those that a limit ended.

That needs prompts of which each extends the one before: `plain-full`, or a spec of yours. Where the context overflows
the sequence ends before the turn that no longer fits (`env/cut`); the return is that of the whole episode. An episode
that infrastructure broke has no reward, so TRL gives it no advantage.

For chat models with tool calls, and where vLLM samples: `aem_agent.adapters.tool_env`, by TRL's `environment_factory`.
Written for TRL 1.16, where `rollout_func` is experimental.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from statistics import fmean
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from aem_agent.agent_config import AgentConfig
from aem_agent.engines.torch_engine import TorchEngine
from aem_agent.model.hf import wrapped
from aem_agent.model.tokenizers import Tokenizer
from aem_agent.model_policies import ModelPolicy
from aem_agent.pools import InProcessPool
from aem_agent.prompter import TokenPrompter
from aem_agent.prompts import PromptSpec
from aem_agent.rollout import RolloutManager
from aem_agent.seeds import episode_seed
from aem_agent.types import Episode, Response, TaskRef
from aem_envs.registration import make_env
from trainer.errors import TrainerError

T = TypeVar("T")
COLUMNS = ("env_return", "env_won", "env_turns", "env_invalid", "env_cut")
"""What a reward function is told of each episode beside TRL's own arguments: None where its infrastructure broke."""


class EnvRolloutError(TrainerError):
    """A trainer or a prompt spec that this adapter cannot serve, or a batch without one completed episode."""


@dataclass(frozen=True, slots=True)
class Joined:
    """An episode as one sequence; the last three have one entry per token of `completion`."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    mask: tuple[int, ...]
    """1 at tokens that were sampled."""
    logprobs: tuple[float, ...]
    """As recorded while sampling, nats; 0 at other tokens."""
    cut: bool
    """Turns at the end are left out: their prompts did not extend the sequence."""


def joined(episode: Episode, end: int, ends: Collection[int] = ()) -> Joined:
    """The turns of an episode that a token engine played, one after the other; see the head of this module.

    ends: the ids that TRL takes for an end when they are the last; `end` is one of them, whether named or not.
    """
    prompt = episode.turns[0].prompt_token_ids
    ids, mask, logprobs = list(prompt), list[int](), list[float]()
    cut = False
    for turn in episode.turns:
        response = turn.response
        if cut := turn.prompt_token_ids[: len(ids)] != tuple(ids):
            break
        seen = turn.prompt_token_ids[len(ids) :]
        ids += [*seen, *response.token_ids]
        mask += [0] * len(seen) + [1] * len(response.token_ids)
        logprobs += [0.0] * len(seen) + list(response.logprobs or [0.0] * len(response.token_ids))
    ended = episode.terminated and not cut
    if ended or ids[-1] in (end, *ends):
        last = end if ended else next(token for token in count() if token not in (end, *ends))
        ids, mask, logprobs = [*ids, last], [*mask, 0], [*logprobs, 0.0]
    return Joined(prompt, tuple(ids[len(prompt) :]), tuple(mask), tuple(logprobs), cut)


def env_reward(
    completions: Sequence[Any],
    env_return: Sequence[float | None],
    env_won: Sequence[bool | None],
    env_turns: Sequence[int | None],
    env_invalid: Sequence[int | None],
    env_cut: Sequence[bool | None],
    log_metric: Callable[[str, float], None] | None = None,
    **_: Any,
) -> list[float | None]:
    """A reward function for TRL: the native return of each episode. Logs `env/won`, `env/turns`, `env/invalid`, the
    share of actions that the parser or the environment refused, and `env/cut`."""
    rows = [row for row in zip(env_won, env_turns, env_invalid, env_cut, strict=True) if row[1] is not None]
    if log_metric is not None and rows:
        log_metric("env/won", fmean(float(bool(won)) for won, *_ in rows))
        log_metric("env/turns", fmean(turns or 0 for _, turns, *_ in rows))
        log_metric("env/invalid", sum(row[2] or 0 for row in rows) / sum(row[1] or 0 for row in rows))
        log_metric("env/cut", fmean(float(bool(row[3])) for row in rows))
    return list(env_return)


class EnvRollout:
    """Plays the tasks that TRL's prompts name, with the model that TRL trains; give it as `rollout_func`.

    Args:
        env_id: any `aem/…` environment, or module:EnvId of yours.
        agent: prompts, parser, answer length and stop strings, such as `AgentConfig.load(folder)`; None: `plain-full`.
            Temperature and top-p are TRL's.
        concurrency: episodes in flight at once.
        settings: of the environment, such as `max_steps`.

    Raises:
        EnvRolloutError: the spec's prompts do not extend one another.

    Besides, what `make_env` and `AgentConfig.build` raise.
    """

    def __init__(
        self, env_id: str, *, agent: AgentConfig | None = None, concurrency: int = 64, **settings: Any
    ) -> None:
        self.agent = agent or AgentConfig(prompt="plain-full")
        self.concurrency = concurrency
        self.spec, self._parser = self.agent.build()
        self.env_id = env_id.rpartition(":")[2]
        self._env = make_env(env_id, **settings)
        self._split_of = cache(self._env.split_of)
        _require_extending(self.spec, self.env_id)
        self._pool = InProcessPool(lambda: make_env(env_id, **settings))
        self._policy: ModelPolicy | None = None
        self._served: tuple[Any, Any] = (None, None)
        """Model and tokenizer that the policy was made of: another trainer has others."""
        self._calls = WeakKeyDictionary[Any, tuple[tuple[int, bool], int]]()
        """Of each trainer: what its last batch was of, and how many there were before it."""

    def dataset(self, split: str | None = None, limit: int | None = None) -> Any:
        """A `datasets.Dataset` of the tasks of a split (None: the environment's first), for `train_dataset`.

        Raises:
            BadOptionError: no such split; what `require_trainable` raises for one that is for evaluation only.
        """
        from datasets import Dataset

        split = self._env.split if split is None else split
        self._env.require_trainable(split)
        return Dataset.from_dict({"prompt": list(self._env.task_ids(split, limit))})

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        """TRL's `rollout_func`: one episode for each prompt, in order.

        Raises:
            EnvRolloutError: settings of TRL that sample otherwise than this does; no completed episode.
        """
        training = trainer.model.training
        try:
            policy = self._policy_of(trainer)
            policy = policy.with_sampling(temperature=trainer.temperature, top_p=trainer.top_p)
            manager = RolloutManager(self._pool, policy, concurrency=self.concurrency)
            tasks = [TaskRef(self.env_id, task_id, self._split_of(task_id)) for task_id in prompts]
            groups = _wait(manager.run(tasks, seed=self._seed(trainer, training)))
        finally:
            trainer.model.train(training)
            self._forget()
        episodes = [(*group.episodes, *group.errored)[0] for group in groups]
        if not any(episode.completed for episode in episodes):
            raise EnvRolloutError(f"all episodes of a batch failed, the first: {episodes[0].error}")
        end, pad = trainer.processing_class.eos_token_id, trainer.processing_class.pad_token_id
        return _fields(episodes, end, {*trainer.eos_token_ids, pad})

    def close(self) -> None:
        """Close the environments, and let go of the model."""
        self._policy, self._served = None, (None, None)
        self._env.close()
        _wait(self._pool.aclose())

    def _policy_of(self, trainer: Any) -> ModelPolicy:
        """TRL's own module as a policy; made once for each model and tokenizer."""
        trainer.model.eval()
        _require_plain_sampling(trainer)
        served = (trainer.model, trainer.processing_class)
        if self._policy is None or any(a is not b for a, b in zip(self._served, served, strict=True)):
            model = wrapped(getattr(trainer.model, "get_base_model", lambda: trainer.model)())
            tokenizer = _tokenizer(trainer.processing_class)
            positions = model.max_positions - 1  # the token that closes an episode wants one
            limit = min(self.agent.context_limit or positions, positions)
            sampling = replace(self.agent.sampling, temperature=trainer.temperature)
            engine = TorchEngine(model, tokenizer, share=True)
            self._policy = ModelPolicy(self.spec, engine, tokenizer, self._parser, sampling, limit)
            self._served = served
        return self._policy

    def _seed(self, trainer: Any, training: bool) -> int:
        """Another one for each batch and process; the same again when a run is repeated or resumed."""
        key = (int(trainer.state.global_step), training)
        last, before = self._calls.get(trainer, (None, 0))
        number = before + 1 if last == key else 0
        self._calls[trainer] = (key, number)
        purpose = f"trl {'rollout' if training else 'evaluation'}, process {trainer.accelerator.process_index}"
        return episode_seed(trainer.args.seed, f"{purpose}, update {key[0]}", number)

    def _forget(self) -> None:
        """Keys and values of what was played: the update needs the room."""
        if self._policy is not None and isinstance(self._policy.engine, TorchEngine):
            self._policy.engine.forget()


def _fields(episodes: Sequence[Episode], end: int, ends: Collection[int] = ()) -> dict[str, Any]:
    """What TRL wants of a batch of episodes, and `COLUMNS`."""
    lost = Joined((end,), (end,), (0,), (0.0,), cut=False)  # a row that nothing is learnt from
    rows = [joined(episode, end, ends) if episode.completed else lost for episode in episodes]
    told = [
        (e.return_, e.won, len(e.turns), sum(not (t.format_valid and t.action_valid) for t in e.turns), row.cut)
        if e.completed
        else (None,) * len(COLUMNS)
        for e, row in zip(episodes, rows, strict=True)
    ]
    return {
        "prompt_ids": [list(row.prompt) for row in rows],
        "completion_ids": [list(row.completion) for row in rows],
        "logprobs": [list(row.logprobs) for row in rows],
        "env_mask": [list(row.mask) for row in rows],
        **{name: list(values) for name, values in zip(COLUMNS, zip(*told, strict=True), strict=True)},
    }


def _require_plain_sampling(trainer: Any) -> None:
    """Settings that would make the sampling distribution another than TRL believes, or that are not served here."""
    args = trainer.args
    wrong = {
        "use_vllm": args.use_vllm,
        "top_k": args.top_k,
        "min_p": args.min_p,
        "repetition_penalty": args.repetition_penalty != 1.0,
        "generation_kwargs": args.generation_kwargs,
        "fsdp": trainer.is_fsdp_enabled,
        "deepspeed": trainer.is_deepspeed_enabled,
    }
    if found := [name for name, value in wrong.items() if value]:
        raise EnvRolloutError(
            f"EnvRollout samples by itself and does not serve {', '.join(found)}: leave it out, or take "
            "aem_agent.adapters.tool_env with environment_factory, which TRL samples for"
        )


def _require_extending(spec: PromptSpec, env_id: str) -> None:
    """All turns are shown, and the second prompt begins with the first and its response: two turns on paper show it."""
    prompts = TokenPrompter(spec, env_id, lambda text: list(text.encode()), 1_000_000)
    first, _ = prompts.prompt("You are in a room.\n\nYour task is to: look.", {})
    said = tuple(b"look\n")
    prompts.said("", Response("look\n", said), "look")
    second, _ = prompts.prompt("You see nothing.", {})
    if spec.chat or spec.window is not None or second[: len(first) + len(said)] != (*first, *said):
        raise EnvRolloutError(
            f"a prompt of {spec.name!r} does not extend the one before, so an episode is no single sequence: take "
            "AgentConfig(prompt='plain-full') and a model that was trained with it"
        )


def _tokenizer(processing: Any) -> Tokenizer:
    """Ours, with the ids of TRL's."""
    if getattr(processing, "backend_tokenizer", None) is None:
        raise EnvRolloutError("the processing_class has no fast tokenizer: give AutoTokenizer.from_pretrained(folder)")
    from tokenizers import Tokenizer as Inner

    inner = Inner.from_str(processing.backend_tokenizer.to_str())
    inner.no_padding()
    inner.no_truncation()
    return Tokenizer(inner, processing.eos_token_id, processing.pad_token_id)


def _wait(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, also in a notebook, whose thread runs an event loop already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
