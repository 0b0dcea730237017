"""What behaviour cloning learns from: experts' games, or recorded episodes, as packed sequences with marked targets."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aem_agent.prompter import TokenPrompter
from aem_agent.record_format import BadRecordError
from aem_agent.record_format import from_json as episode_from_json
from aem_agent.rollout import RolloutManager
from aem_agent.types import Decision, Episode, EpisodePolicy, RolloutGroup, TaskRef
from aem_envs.plugins import make_expert
from trainer import rollouts
from trainer.agent import Agent
from trainer.batch import Batch, Packer
from trainer.errors import DemonstrationError

GAMES_AT_ONCE = 200
"""Games played before they are packed: whole histories as prompts would otherwise fill the memory."""


class Demonstrator:
    """An expert as a policy that says its actions in the model's tokens, after prompts the model would have seen."""

    trainable = False
    needs_env = True

    def __init__(self, agent: Agent, noise: float) -> None:
        self.agent = agent
        config = agent.config
        self.name = config.warmstart.expert
        self._options: dict[str, Any] = {**config.warmstart.expert_options}
        if noise:
            self._options |= {"noise": noise, "seed": config.seed}
        self.random_turns: dict[int, list[bool]] = {}
        """By episode seed: which turns were noise."""

    def start(self, env: Any, task: TaskRef, seed: int) -> EpisodePolicy:
        expert = make_expert(task.env_id, self.name, **self._options)
        return _Demonstration(self, expert, env, self.random_turns.setdefault(seed, []))

    async def aclose(self) -> None:
        """Nothing to close."""


class _Demonstration:
    __slots__ = ("env", "expert", "owner", "prompts", "random", "started")

    def __init__(self, owner: Demonstrator, expert: Any, env: Any, random: list[bool]) -> None:
        self.owner, self.expert, self.env, self.random = owner, expert, env, random
        self.prompts: TokenPrompter = owner.agent.prompter()
        self.random.clear()  # a retried episode starts again
        self.started = False

    async def act(self, observation: str, info: dict[str, Any]) -> Decision:
        if not self.started:
            self.expert.reset(self.env, observation, info)
            self.started = True
        ids, dropped = self.prompts.prompt(observation, info)
        action = self.expert.act(observation, info)
        self.random.append(bool(getattr(self.expert, "acted_at_random", False)))
        response = self.owner.agent.answer(self.prompts, action)
        self.prompts.said(observation, response, action)
        return Decision(response, action, ids, dropped_turns=dropped)


def play_experts(
    agent: Agent,
    pools: Sequence[Sequence[TaskRef]],
    *,
    explore: bool,
    seed: int,
    played: Callable[[int, str], None] = lambda games, note: None,
) -> Batch:
    """Won games of the recipe's expert as a batch whose targets are its actions.

    Noise is played and shown but not a target; in the exploratory stage it is one. `played` is told of each game done.
    A game that an infrastructure error ends twice is left out.

    Raises:
        DemonstrationError: no game was won, or none was completed.
    """
    config = agent.config
    stage = config.warmstart
    games, noise = (stage.explore_games, stage.explore_noise) if explore else (stage.games, stage.noise)
    purpose = "explored" if explore else "demonstrated"
    demonstrator = Demonstrator(agent, noise)
    packer = _DemonstrationPacker(agent)
    count: Counter[str] = Counter()

    def ended(episode: Episode) -> None:
        count.update(games=1, won=int(episode.won), errors=int(not episode.completed))
        played(count["games"], f"{count['won']} won" + (f", {count['errors']} errors" if count["errors"] else ""))
        if count["errors"] == games:
            raise DemonstrationError(
                f"every demonstration ended in an infrastructure error, the last in {episode.error}"
            )

    for variant, pool in enumerate(pools):

        async def play(chunk: Sequence[TaskRef], variant: int = variant) -> list[RolloutGroup]:
            manager = RolloutManager(
                lambda: rollouts.make_demonstration_env(config, variant),
                demonstrator,
                concurrency=stage.concurrency,
                retries=1,
                on_episode=ended,
            )
            try:
                return await manager.run(chunk, seed=seed)
            finally:
                await manager.aclose()

        mine = rollouts.tasks_of_step(pool, 0, games, config.seed, purpose)[variant :: len(pools)]
        for start in range(0, len(mine), GAMES_AT_ONCE):
            groups = asyncio.run(play(mine[start : start + GAMES_AT_ONCE]))
            for episode in (e for g in groups for e in g.episodes):
                random = demonstrator.random_turns.pop(episode.seed, [])
                packer.add(episode, [explore or not noisy for noisy in random])
    return packer.batch()


def read_recorded(agent: Agent, path: Path) -> Batch:
    """Won episodes of an `episodes.jsonl` or of an SFT export (`aem-eval export`), with prompts of the recipe's spec.

    Raises:
        DemonstrationError: no such file, a line of another kind, or no won episode.
    """
    packer = _DemonstrationPacker(agent)
    for steps, won in _recorded(path):
        prompts, turns = agent.prompter(), []
        for observation, action in steps:
            ids, _ = prompts.prompt(observation, {})
            response = agent.answer(prompts, action)
            prompts.said(observation, response, action)
            turns.append((ids, response.token_ids, True))
        if won:
            packer.turns(turns)
    return packer.batch()


def _recorded(path: Path) -> Iterator[tuple[list[tuple[str, str]], bool]]:
    """([(observation, action), …], won) of every line of either format."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DemonstrationError(f"cannot read warmstart.data {path}: {error}") from error
    lines = text.removesuffix("\n").split("\n") if text else []  # splitlines() also cuts at U+2028, which JSON may hold
    for number, line in enumerate(lines, 1):
        try:
            data = json.loads(line)
            if "steps" in data:
                yield [(str(s["observation"]), str(s["action"])) for s in data["steps"]], bool(data["won"])
            else:
                episode = episode_from_json(data)
                yield [(t.observation, t.action) for t in episode.turns], episode.won
        except (ValueError, KeyError, TypeError, RecursionError, BadRecordError) as error:
            raise DemonstrationError(
                f"{path} line {number} is neither an episode nor an SFT export ({type(error).__name__}: {error}); "
                "make one with `aem-eval export RUN`"
            ) from error


class _DemonstrationPacker:
    """Packs won episodes (and those of the least return), whole where prompts only grow, else turn by turn."""

    def __init__(self, agent: Agent) -> None:
        config = agent.config
        self._packer = Packer()
        self._episodes = 0
        self._join = config.warmstart.whole_episodes
        self._least_return = config.warmstart.least_return
        window = agent.spec.window
        self._stride = window + 1 if config.warmstart.history_targets and window is not None else 1

    def add(self, episode: Episode, targets: Sequence[bool]) -> None:
        if episode.won or episode.return_ >= self._least_return:
            turns = zip(episode.turns, targets)
            self.turns([(t.prompt_token_ids, t.response.token_ids, target) for t, target in turns])

    def turns(self, turns: Sequence[tuple[Sequence[int], Sequence[int], bool]]) -> None:
        """(prompt, response, is a target) of one episode's turns."""
        packer, number = self._packer, self._episodes
        self._episodes += 1
        for place, (prompt, response, target) in enumerate(turns):
            skipped = (len(turns) - 1 - place) % self._stride != 0
            if not self._join and (skipped or (self._stride == 1 and not target)):
                continue
            packer.prompt(prompt, number, join=self._join)
            if self._stride > 1 and not self._join:
                self._mark_history(turns[max(0, place - self._stride + 1) : place], number)
            packer.response(response, number, 0, target=target)

    def _mark_history(self, turns: Sequence[tuple[Sequence[int], Sequence[int], bool]], number: int) -> None:
        """Make the earlier responses that the newest prompt shows targets too, looking for them from its end."""
        packer = self._packer
        end, found = len(packer.tokens), []
        for _, response, target in reversed(turns):
            start = _last_place(packer.tokens, list(response), packer.starts[-1] + 1, end)
            if start is None:
                break
            end = start
            if target:
                found.append((start, len(response)))
        for start, length in reversed(found):
            packer.mark(start, length, number, 0)

    def batch(self) -> Batch:
        if not self._packer.targets:
            raise DemonstrationError(
                "no won demonstration to clone: raise warmstart.max_steps or warmstart.games, lower warmstart.noise"
            )
        return self._packer.batch()


def _last_place(tokens: list[int], wanted: list[int], low: int, high: int) -> int | None:
    """Start of the last occurrence of `wanted` within tokens[low:high]."""
    for start in range(high - len(wanted), low - 1, -1):
        if tokens[start : start + len(wanted)] == wanted:
            return start
    return None


def bucketed(batch: Batch, max_tokens: int, generator: torch.Generator) -> list[Tensor]:
    """One pass over the sequences: minibatches of at most `max_tokens` tokens, of like length, in random order.

    Lengths are jittered by up to 10 %, so that each pass puts other sequences together.
    """
    lengths = batch.cu_seqlens.diff()
    jittered = lengths * (1 + 0.1 * torch.rand(len(lengths), generator=generator))
    order = jittered.argsort()
    room_used = lengths[order].cumsum(0)
    bounds = torch.searchsorted(
        room_used, torch.arange(max_tokens, int(room_used[-1]) + max_tokens, max_tokens), right=True
    )
    cuts = torch.unique(torch.cat([torch.tensor([0]), bounds, torch.tensor([len(order)])]))
    chunks = [order[a:b] for a, b in zip(cuts[:-1].tolist(), cuts[1:].tolist())]
    return [chunks[i] for i in torch.randperm(len(chunks), generator=generator).tolist()]
