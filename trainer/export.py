"""Model folders of a run: the preset it starts from, and the trained weights with everything evaluation needs."""

import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from aem_agent.agent_config import AgentConfig
from aem_agent.env_texts import EnvText, env_text
from aem_agent.model.interface import LanguageModel
from aem_agent.model.presets import make_preset, preset
from aem_agent.prompts import Exchange, Part, PromptSpec
from aem_agent.types import TaskRef
from aem_envs.core import Expert, TextEnv
from aem_envs.plugins import make_expert
from trainer import checkpoints, rollouts
from trainer.agent import Agent
from trainer.config import TrainConfig
from trainer.errors import RecipeError


def preset_folder(config: TrainConfig, folder: Path, pools: Sequence[Sequence[TaskRef]]) -> Path:
    """The recipe's preset as a model folder; made once per run, the same for the same recipe and seed.

    Raises:
        RecipeError: the preset does not take `model.preset_options`.
    """
    if not (folder / "config.json").is_file():
        try:
            chosen = preset(config.model.preset, **config.model.preset_options)
        except TypeError as error:
            raise RecipeError(f"preset {config.model.preset!r} does not take model.preset_options: {error}") from error
        texts = list(corpus(config, pools))

        def write(target: Path) -> None:
            make_preset(chosen, target, config.seed, texts)

        checkpoints.write_folder(folder, write)
    return folder


def corpus(config: TrainConfig, pools: Sequence[Sequence[TaskRef]]) -> Iterator[str]:
    """Texts a run's model will see: prompts' pieces, observations and actions of games of an expert that errs."""
    spec, _ = AgentConfig(config.model.prompt, dict(config.model.prompt_options)).build()
    texts = env_text(config.env.id)
    rng = random.Random(config.seed)
    if config.model.vocabulary == "all":
        yield from texts.words()
    for variant, pool in enumerate(pools):
        env = rollouts.make_demonstration_env(config, variant)
        expert = make_expert(rollouts.plain_id(config), config.warmstart.expert, **config.warmstart.expert_options)
        try:
            for task in rollouts.tasks_of_step(pool, 0, config.model.corpus_games, config.seed, purpose="corpus"):
                yield from _game(config, spec, texts, env, expert, task, rng)
        finally:
            env.close()


def _game(
    config: TrainConfig,
    spec: PromptSpec,
    texts: EnvText,
    env: TextEnv,
    expert: Expert,
    task: TaskRef,
    rng: random.Random,
) -> Iterator[str]:
    """The texts of one game."""
    observation, info = env.reset(seed=0, options={"task_id": task.task_id, "split": task.split})
    expert.reset(env, observation, info)
    yield from _texts(spec.head(texts, observation))
    done, number = False, 0
    while not done:
        number += 1
        admissible = info.get("admissible_actions") or []
        yield from (spec.say(texts, other, observation) for other in admissible)
        action = expert.act(observation, info)
        if admissible and rng.random() < config.warmstart.explore_noise:
            action = env.random_action(info, rng)
        seen = observation
        observation, _, terminated, truncated, info = env.step(action)
        done = terminated or truncated
        said = spec.answer(spec.say(texts, action, seen))
        yield from _texts(spec.block(texts, Exchange(number, seen, said, said, action, observation)))
        yield from _texts(spec.tail(texts, number + 1, observation, info))


def _texts(parts: Sequence[Part]) -> Iterator[str]:
    return (part for part in parts if isinstance(part, str))


def export_model(model: LanguageModel, agent: Agent, source: Path, folder: Path) -> None:
    """A standard transformers folder with tokenizer, and `aem.json`, so that `aem-eval run ENV -m FOLDER` works."""
    model.save(folder)
    for path in source.iterdir():
        if path.is_file() and (path.name in _TOKENIZER_FILES or path.name.startswith("tokenizer")):
            shutil.copyfile(path, folder / path.name)
    agent.described.save(folder)


_TOKENIZER_FILES = {"special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja"}
