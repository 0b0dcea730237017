"""Demonstrations of shopping are taught in a small model's words, whether played now or recorded before."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from helpers import QUICK, quiet

from aem_agent.evaluate import EvalConfig, evaluate, open_folder, prepare
from aem_agent.export import export
from aem_agent.model.tokenizers import Tokenizer
from aem_agent.policies import make_policy
from aem_envs import BadOptionError, make_env, make_expert
from trainer.batch import Batch
from trainer.demonstrations import play_experts, read_recorded
from trainer.overrides import override
from trainer.runs import load_recipe, new_run

SHOP = "aem/WebShop-v0"


def answers(batch: Batch, tokenizer: Tokenizer) -> list[str]:
    """What is said in each episode of a batch of whole ones."""
    parts = (batch.select(torch.tensor([n])).batch for n in range(batch.n_sequences))
    return sorted(tokenizer.decode(part.labels.tolist()) for part in parts)


def test_played_and_recorded_demonstrations_say_the_same(tmp_path: Path) -> None:
    kept = [s for s in QUICK if not s.startswith("warmstart.tokens_per_step")]
    plain = [
        *kept,
        "warmstart.noise=0",
        "warmstart.games=6",
        "warmstart.expert_options.query=known",
        "warmstart.expert_options.care=1.0",
        "env.train_tasks=6",
        "env.kwargs.products=1000",
    ]
    plan = prepare(EvalConfig(SHOP, "expert", split="train", tasks=6))
    folder = open_folder(plan, tmp_path / "eval", resume=False)
    evaluate(plan, make_policy("expert", env_id=SHOP), folder, concurrency=1)
    export(folder.episodes(), tmp_path / "sft.jsonl")
    with new_run(override(load_recipe("webshop-tiny"), plain), tmp_path / "run", quiet()) as session:
        played = play_experts(session.agent, session.pools, explore=False, seed=0)
        recorded = read_recorded(session.agent, tmp_path / "sft.jsonl")
        tokenizer = session.agent.tokenizer
        assert isinstance(tokenizer, Tokenizer)
        said = answers(played, tokenizer)
        assert answers(recorded, tokenizer) == said and len(said) == 6
    for text in said:
        lines = text.split("\n")
        assert lines[0].startswith("search ") and lines[1].startswith("open ") and "buy" in lines
        assert "[" not in text and "b0" not in text
    actions = [
        step["action"]
        for line in (tmp_path / "sft.jsonl").read_text().splitlines()
        for step in json.loads(line)["steps"]
    ]
    assert "click[buy now]" in actions, "records keep the environment's own actions"


def test_the_expert_may_search_by_the_instruction() -> None:
    env = make_env(SHOP)
    copied = 0
    for task_id in env.task_ids("train", 30):
        observation, info = env.reset(options={"task_id": task_id})
        expert = make_expert(SHOP, "expert", query="instruction")
        expert.reset(env, observation, info)
        action = expert.act(observation, info)
        words = action.removeprefix("search[").removesuffix("]")
        copied += env.goal.instruction.startswith(words) and "price lower" not in words
        done = False
        while not done:
            observation, reward, terminated, truncated, info = env.step(expert.act(observation, info))
            done = terminated or truncated
        assert reward == 1
    assert copied >= 25
    with pytest.raises(BadOptionError, match="query"):
        make_expert(SHOP, "expert", query="title")


def test_demonstrations_of_the_least_return_are_cloned_too(tmp_path: Path) -> None:
    plain = [s for s in QUICK if not s.startswith("warmstart.tokens_per_step")]
    plain += ["warmstart.games=30", "env.train_tasks=30", "warmstart.noise=0", "warmstart.expert_options.care=0.0"]
    counts = []
    for least in (1.0, 0.3):
        settings = [*plain, f"warmstart.least_return={least}"]
        with new_run(override(load_recipe("webshop-tiny"), settings), tmp_path / str(least), quiet()) as session:
            counts.append(play_experts(session.agent, session.pools, explore=False, seed=0).n_sequences)
    assert 0 < counts[0] < counts[1] == 30, "without care only goals without options are won"
