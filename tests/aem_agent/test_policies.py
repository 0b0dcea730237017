"""Policies: with and without a model, by name, and as a model folder's `aem.json` says."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import aem_envs  # noqa: F401  # registers the environments
from aem_agent.agent_config import AgentConfig, AgentConfigError
from aem_agent.engines.fake import ByteTokenizer, FakeTokenEngine, ScriptedEngine
from aem_agent.model_policies import ChatPolicy, ModelPolicy
from aem_agent.parsers import LineParser, ThinkActionParser
from aem_agent.policies import BadScriptError, ExpertPolicy, ScriptedPolicy, UnknownPolicyError, make_policy
from aem_agent.prompts import PlainFullSpec, PlainSpec, ThinkActionSpec
from aem_agent.rollout import RolloutManager
from aem_agent.types import AgentError, Episode, GenerateRequest, Message, Response, Sampling, TaskRef
from aem_envs.core import AemEnvError, FreeText, TextEnv
from aem_envs.plugins import UnknownPluginError, experts

TOY = "aem/Toy-v0"
TASK = TaskRef(TOY, "rooms4-start1-red", "train")


def play(policy: Any, env: Any = None, tasks: list[TaskRef] | None = None, **options: Any) -> list[Episode]:
    manager = RolloutManager(env or (lambda: gym.make(TOY, max_steps=6)), policy, **options)
    groups = asyncio.run(manager.run(tasks or [TASK], 2))
    assert not any(group.errored for group in groups), groups[0].errored
    return [episode for group in groups for episode in group.episodes]


def model_policy(engine: Any = None, spec: Any = None, **options: Any) -> ModelPolicy:
    spec = spec or PlainFullSpec()
    parser = ThinkActionParser() if spec.chat else LineParser()
    sampling = options.pop("sampling", Sampling(max_new_tokens=20))
    context = options.pop("context_limit", 5000)
    return ModelPolicy(spec, engine or FakeTokenEngine(), ByteTokenizer(), parser, sampling, context, **options)


class Endless(TextEnv):
    """Has no finite set of actions; samples of its space must not depend on who else plays."""

    action_space = FreeText()

    def __init__(self) -> None:
        super().__init__(split="test", max_steps=3, render_mode=None)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self.n = 0
        return "say something", {"admissible_actions": None}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.n += 1
        return "ok", 0.0, False, self.n == 3, {"admissible_actions": None, "truncation_reason": "max_steps"}


def test_random_without_a_finite_set_of_actions() -> None:
    tasks = [TaskRef("test/Endless-v0", str(n), "test") for n in range(8)]
    runs = [play(make_policy("random"), Endless, tasks, concurrency=c) for c in (1, 8)]
    assert [e.identity() for e in runs[0]] == [e.identity() for e in runs[1]]
    assert len({turn.action for episode in runs[0] for turn in episode.turns}) > 30


def test_random_episodes_on_one_action_space_do_not_disturb_each_other() -> None:
    policy, env = make_policy("random"), Endless()
    task = TaskRef("test/Endless-v0", "1", "test")

    async def draw(together: bool) -> list[str]:
        one, two = policy.start(env, task, 1), policy.start(env, task, 2)
        drawn = []
        for _ in range(4):
            drawn.append((await one.act("", {})).action)
            if together:
                await two.act("", {})
        return drawn

    assert asyncio.run(draw(together=True)) == asyncio.run(draw(together=False))


def test_scripts_from_files(tmp_path: Path) -> None:
    file = tmp_path / "script"
    for text in ('["go east", "go east"]', "go east\ngo east\n", json.dumps({TASK.task_id: ["go east", "go east"]})):
        file.write_text(text)
        episode = play(make_policy(f"scripted:{file}"))[0]
        assert [turn.action for turn in episode.turns[:3]] == ["go east", "go east", ""]
    for bad in ("[1]", "[" * 100_000, '{"a": "b"}', "{", "\udcff"):
        file.write_bytes(bad.encode("utf-8", "surrogateescape"))
        with pytest.raises(BadScriptError):
            make_policy(f"scripted:{file}")
    with pytest.raises(BadScriptError, match="cannot read"):
        ScriptedPolicy.from_file(tmp_path / "absent")


def test_names(tmp_path: Path) -> None:
    assert make_policy("random").name == "random"
    assert play(make_policy("expert", env_id=TOY, noise=0.0))[0].won
    for name in ("gpt", "./none", "runs/none", "experts/none", str(tmp_path / "none"), "scripted:"):
        with pytest.raises(UnknownPolicyError):
            make_policy(name)
    with pytest.raises(UnknownPolicyError, match="does not take"):
        make_policy("random", noise=1)
    with pytest.raises(UnknownPluginError, match="no expert 'expert-none'"):
        make_policy("expert-none", env_id=TOY)
    with pytest.raises(AemEnvError):
        make_policy("expert", env_id=TOY, nonsense=1)
    with pytest.raises(AgentConfigError):
        make_policy("openai:x", base_url="http://127.0.0.1:1/v1", prompt_options={"windows": 1})


def test_any_expert_of_an_environment_is_a_policy_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(experts._entries, f"{TOY}/first-door", "aem_envs.toy:ToyExpert")
    assert play(make_policy("first-door", env_id=TOY))[0].won
    assert isinstance(make_policy("first-door"), ExpertPolicy), "as an expert of any environment"
    with pytest.raises(UnknownPolicyError, match="unknown policy 'first-dor'; give random, expert, first-door,"):
        make_policy("first-dor", env_id=TOY)
    with pytest.raises(UnknownPolicyError):
        make_policy("first-door", env_id="aem/ALFWorld-v0")


def test_an_expert_that_does_not_exist_ends_the_run() -> None:
    manager = RolloutManager(lambda: gym.make(TOY), ExpertPolicy("expert-none"))
    with pytest.raises(UnknownPluginError, match="no expert 'expert-none'"):
        asyncio.run(manager.run([TASK]))


def test_model_policy_records_tokens_from_end_to_end() -> None:
    policy = model_policy()
    for episode in play(policy):
        assert len(episode.turns) == 6
        for turn, following in zip(episode.turns, episode.turns[1:]):
            whole = turn.prompt_token_ids + turn.response.token_ids
            assert following.prompt_token_ids[: len(whole)] == whole
            assert turn.response.logprobs is not None
    groups = asyncio.run(RolloutManager(lambda: gym.make(TOY), policy).collect([TASK], 2, seed=5)).groups
    assert len(groups[0].episodes) == 2


def test_sampling_seeds_differ_per_turn_and_not_per_concurrency() -> None:
    seeds: list[int] = []

    def reply(request: GenerateRequest) -> str:
        seeds.append(request.seed)
        return "look\n"

    runs = {c: play(model_policy(FakeTokenEngine(latency=0.001)), tasks=[TASK] * 8, concurrency=c) for c in (1, 16)}
    assert [e.identity() for e in runs[1]] == [e.identity() for e in runs[16]]
    play(model_policy(FakeTokenEngine(reply=reply)))
    assert len(set(seeds)) == 12, "one stream per episode and turn"


def test_requests_of_active_episodes_run_together() -> None:
    engine = FakeTokenEngine(latency=0.002)
    play(model_policy(engine), tasks=[TASK] * 8, concurrency=16)
    assert engine.most_running == 16


def test_malformed_responses_are_recorded_and_sent_trimmed() -> None:
    engine = ScriptedEngine(["<think>x</think><action>go east</action>", "  just talk  ", "<action>go ea"])
    episode = play(model_policy(engine, ThinkActionSpec(), sampling=Sampling(max_new_tokens=99)), concurrency=1)[0]
    seen = [(t.action, t.format_valid, t.format_error, t.action_valid) for t in episode.turns[:3]]
    assert seen == [
        ("go east", True, None, True),
        ("just talk", False, "missing_action", False),
        ("go ea", False, "unclosed_action", False),
    ]


def test_overflow_is_counted_and_a_full_context_is_refused() -> None:
    episode = play(model_policy(spec=PlainSpec(window=None), context_limit=200))[0]
    assert episode.turns[0].dropped_turns == 0 < episode.turns[-1].dropped_turns
    assert all(len(t.prompt_token_ids) <= 180 for t in episode.turns)
    with pytest.raises(AgentError, match="max_new_tokens"):
        model_policy(context_limit=20)


def test_stop_strings_and_other_sampling() -> None:
    policy = model_policy()
    assert policy.sampling.stop == ("\n",)
    greedy = policy.with_sampling(temperature=0.0, max_new_tokens=30)
    assert greedy.sampling == Sampling(temperature=0.0, max_new_tokens=30, stop=("\n",))
    assert (policy.prompt_limit, greedy.prompt_limit) == (4980, 4970)
    assert greedy.engine is policy.engine and policy.sampling.temperature == 1.0


def test_an_engine_that_fails_now_and_then_loses_nothing() -> None:
    clean = play(model_policy(), tasks=[TASK] * 4)
    shaky = play(model_policy(FakeTokenEngine(fail=lambda call: call % 17 == 5)), tasks=[TASK] * 4, retries=9)
    assert [e.identity() for e in shaky] == [e.identity() for e in clean]
    assert sum(e.retries for e in shaky) > 0


def test_chat_policy() -> None:
    seen: list[list[Message]] = []

    class Chat:
        async def chat(self, messages: Any, sampling: Sampling, seed: int) -> Response:
            seen.append(list(messages))
            return Response("<think>.</think><action>go east</action>")

        async def aclose(self) -> None: ...

    policy = ChatPolicy(ThinkActionSpec(), Chat(), ThinkActionParser(), Sampling())
    episode = play(policy, concurrency=1)[0]
    assert episode.turns[0].action == "go east" and episode.turns[0].prompt_token_ids == ()
    assert "Action 1: 'go east'" in seen[1][0]["content"]


def test_agent_config_round_trip_and_damage(tmp_path: Path) -> None:
    assert AgentConfig.load(tmp_path) is None
    sampling = Sampling(max_new_tokens=7, stop=("\n",), stop_token_ids=(3,))
    config = AgentConfig("plain", {"window": 2}, "line", {"max_length": 9}, sampling, 99)
    config.save(tmp_path)
    assert AgentConfig.load(tmp_path) == config
    spec, parser = config.build()
    assert spec == PlainSpec(window=2) and parser == LineParser(9)
    for bad in (
        "{",
        "[]",
        '{"prompts": "plain"}',
        '{"sampling": {"heat": 1}}',
        '{"sampling": 3}',
        '{"prompt_options": {"window": 0}}',
        '{"prompt_options": {"windows": 1}}',
    ):
        (tmp_path / "aem.json").write_text(bad)
        with pytest.raises(AgentConfigError):
            AgentConfig.load(tmp_path)
    (tmp_path / "aem.json").write_text('{"prompt": "none"}')
    with pytest.raises(UnknownPluginError, match="plain-full"):
        AgentConfig.load(tmp_path)


def test_no_torch_without_a_model_folder() -> None:
    code = (
        "import sys; from aem_agent.policies import make_policy; import aem_agent.rollout, aem_agent.run_folder;"
        "make_policy('random'); make_policy('openai:x', base_url='http://127.0.0.1:1/v1');"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    presets = pytest.importorskip("aem_agent.model.presets", reason="needs the extra [train]")
    folder = tmp_path_factory.mktemp("tiny")
    text = "task : open the red chest . > go east You are in room 1 of 3 . < think > action\n"
    presets.make_preset("tiny", folder, 0, [text])
    return folder


def test_a_model_folder_plays_as_it_was_trained(tiny_folder: Path) -> None:
    trained = AgentConfig(
        "plain", {"window": 2}, sampling=Sampling(temperature=0.7, max_new_tokens=6), context_limit=200
    )
    trained.save(tiny_folder)
    policy = make_policy(str(tiny_folder), max_new_tokens=256, temperature=0.4)
    assert isinstance(policy, ModelPolicy) and policy.trainable
    assert policy.spec == PlainSpec(window=2) and policy.prompt_limit == 194
    assert policy.sampling == Sampling(temperature=0.4, max_new_tokens=6, stop=("\n",), entropies=True)
    shorter = make_policy(str(tiny_folder), max_new_tokens=4)
    assert isinstance(shorter, ModelPolicy) and shorter.sampling.max_new_tokens == 4
    runs = [play(make_policy(str(tiny_folder)), concurrency=c) for c in (2, 2)]
    assert [e.identity() for e in runs[0]] == [e.identity() for e in runs[1]]
    turn = runs[0][0].turns[1]
    assert turn.prompt_token_ids and turn.response.token_ids and turn.response.logprobs
    full = make_policy(str(tiny_folder), prompt="plain-full")
    assert isinstance(full, ModelPolicy) and full.spec == PlainFullSpec()


def test_a_chat_template_frames_instruct_prompts(tiny_folder: Path) -> None:
    settings = tiny_folder / "tokenizer_config.json"
    data = json.loads(settings.read_text())
    template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"
    settings.write_text(json.dumps({**data, "chat_template": template}))
    (tiny_folder / "aem.json").unlink(missing_ok=True)
    policy = make_policy(str(tiny_folder))
    assert isinstance(policy, ModelPolicy) and isinstance(policy.spec, ThinkActionSpec)
    assert policy.frame == ("<|user|>", "<|end|><|assistant|>")
    plain = make_policy(str(tiny_folder), prompt="plain")
    assert isinstance(plain, ModelPolicy) and plain.frame == ("", "")
