"""`aem/WebShop-v0` on embedded data: rewards of players, modes, quirks, tasks, bad input.

(Over 300 lines: one environment, played and mistreated in every way.)
"""

import os
import pickle
import random
import subprocess
import sys
from itertools import pairwise

import pytest

import aem_envs
from aem_envs.core import BadOptionError, BadStateError
from envs_data.webshop.generator import EmbeddedCatalogue
from envs_data.webshop.numbers import family_of, number_of


@pytest.fixture(scope="module")
def env():
    return aem_envs.make_env("aem/WebShop-v0")


def play(env, name, task_id, seed=0, **options):
    """(reward, actions) of an expert's episode."""
    observation, info = env.reset(seed=seed, options={"task_id": task_id})
    expert = aem_envs.make_expert("aem/WebShop-v0", name, **options)
    expert.reset(env, observation, info)
    actions = []
    while True:
        actions.append(expert.act(observation, info))
        observation, reward, terminated, truncated, info = env.step(actions[-1])
        if terminated or truncated:
            assert info["score"] == reward and info["won"] == (reward == 1.0)
            return reward, actions


def rewards(env, name, split="test", n=150, **options):
    return [play(env, name, task_id, **options)[0] for task_id in env.task_ids(split, n)]


def mean(values):
    return sum(values) / len(values)


def random_rewards(env, n=150):
    found = []
    for number, task_id in enumerate(env.task_ids("test", n)):
        rng = random.Random(number)
        _, info = env.reset(options={"task_id": task_id})
        over = False
        while not over:
            _, reward, terminated, truncated, info = env.step(env.random_action(info, rng))
            over = terminated or truncated
        found.append(reward)
    return found


def test_who_knows_the_goal_reaches_it_and_others_stay_well_below(env):
    expert, reader, first = (rewards(env, name) for name in ("expert", "expert-search", "first-hit"))
    assert expert.count(1.0) >= 0.95 * len(expert)
    assert 0.6 <= reader.count(1.0) / len(reader) <= 0.95, "reading pays, and has its limits"
    assert first.count(1.0) <= 0.25 * len(first) and 0.3 <= mean(first) <= mean(reader) - 0.15
    assert mean(random_rewards(env)) < 0.2


def test_synthetic_goals_are_reached_too():
    env = aem_envs.make_env("aem/WebShop-v0", goals="synthetic")
    expert = rewards(env, "expert", "dev", 60)
    assert expert.count(1.0) >= 57
    assert " with " in env.reset(options={"task_id": env.task_ids("dev", 1)[0]})[0]


def test_noise_is_recovered_from_and_repeats(env):
    task_ids = env.task_ids("train", 40)
    played = [play(env, "expert", task_id, noise=0.2, seed=1) for task_id in task_ids]
    assert played == [play(env, "expert", task_id, noise=0.2, seed=1) for task_id in reversed(task_ids)][::-1]
    assert mean([reward == 1.0 for reward, _ in played]) >= 0.8
    assert mean([len(actions) for _, actions in played]) > mean([len(play(env, "expert", t)[1]) for t in task_ids])
    with pytest.raises(BadOptionError, match="between 0 and 1"):
        aem_envs.make_expert("aem/WebShop-v0", "expert", noise=2)


def test_a_careless_shopper_leaves_options_out(env):
    with_options = [task for task in env.task_ids("train", 80) if env.store.goal(int(task[-5:])).options]
    played = {care: [play(env, "expert", task, care=care) for task in with_options] for care in (0.0, 0.5, 1.0)}
    lengths = {care: mean([len(actions) for _, actions in found]) for care, found in played.items()}
    assert lengths[0.0] < lengths[0.5] < lengths[1.0]
    won = {care: mean([reward == 1.0 for reward, _ in found]) for care, found in played.items()}
    assert won[0.0] == 0 < won[0.5] < won[1.0] == 1.0
    assert min(reward for reward, _ in played[0.0]) >= 0.3, "all but the options is right"
    with pytest.raises(BadOptionError, match="care"):
        aem_envs.make_expert("aem/WebShop-v0", "expert", care=1.5)


def test_noise_buys_nothing(env):
    for name in ("expert", "expert-search"):
        observation, info = env.reset(seed=0, options={"task_id": env.task_ids("train", 1)[0]})
        player = aem_envs.make_expert("aem/WebShop-v0", name, noise=1.0)
        player.reset(env, observation, info)
        env.step("search[<r> x]")
        info = env.step(env.session.actions()[-1])[4]
        assert "click[buy now]" not in {player.act(info["raw_obs"], info) for _ in range(100)}


def test_experts_of_the_shop_refuse_other_environments():
    with pytest.raises(BadOptionError, match="aem/WebShop-v0"):
        aem_envs.make_expert("aem/WebShop-v0", "expert").reset(aem_envs.make_env("aem/Toy-v0"), "", {})


def test_a_purchase_ends_the_episode_with_its_worth(env):
    task_id = env.task_ids("test", 1)[0]
    _, actions = play(env, "expert", task_id)
    env.reset(options={"task_id": task_id})
    for action in actions[:-1]:
        assert env.step(action)[1:4] == (0.0, False, False)
    observation, reward, terminated, truncated, info = env.step(actions[-1])
    assert (reward, terminated, truncated) == (1.0, True, False) and observation == "Thank you for shopping with us!"
    assert info["won"] and info["score"] == 1.0 and info["admissible_actions"] == []
    assert env.last_score.r_type == 1.0 and env.last_score.price


def test_fifteen_steps_and_no_more(env):
    env.reset(seed=0)
    ends = [env.step("search[shirt]")[2:4] for _ in range(15)]
    assert ends == [(False, False)] * 14 + [(False, True)]


@pytest.mark.parametrize(
    ("action", "parsed", "error"),
    [
        ("search[Red Shirt]", "search[red shirt]", None),
        ("search[ red  shirt ]", "search[ red  shirt ]", None),
        ("  search[shirt]\n", "search[shirt]", None),
        ("search[shirt] please", "search[shirt]", None),  # what follows the last bracket does not count
        ("search[a [b] c]", "search[a [b] c]", None),  # from the first bracket to the last
        ("search[two\nlines]", "search[two\nlines]", None),
        ("search[]", None, "search[words]"),
        ("search shirt", None, "search[words]"),
        ("[shirt]", None, "search[words]"),
        ("Search[shirt]", "Search[shirt]", "unknown action"),
        ("buy[shirt]", "buy[shirt]", "unknown action"),
        ("click[search]", "click[search]", "no such thing"),
        ("click[buy now]", "click[buy now]", "no such thing"),
        ("x" * 20_000, None, "at most"),
    ],
)
def test_how_actions_are_read(env, action, parsed, error):
    env.reset(seed=0)
    info = env.step(action)[4]
    assert info["parsed_action"] == parsed and info["action_valid"] == (error is None)
    assert error is None or error in info["action_error"]


def test_a_search_has_one_line(env):
    env.reset(seed=0)
    env.step("search[two\nlines\r]")
    assert env.session.query == "two lines "


def test_the_original_reads_up_to_the_last_opening_bracket():
    env = aem_envs.make_env("aem/WebShop-v0", products=60, compat="original")
    env.reset(seed=0)
    for action in ("search[a [b] c]", "search[two\nlines]"):
        assert env.step(action)[4]["action_valid"] is False
    assert env.step("search[shirt] please")[4]["action_valid"]


def test_clicks_do_not_mind_case(env):
    env.reset(seed=0)
    env.step("search[shirt]")
    assert env.step("click[NEXT >]")[4]["action_valid"]


def test_modes_of_observation(env):
    made = {
        mode: aem_envs.make_env("aem/WebShop-v0", observation_mode=mode)
        for mode in ("text", "text_rich", "html", "url")
    }
    task = {"task_id": env.task_ids("test", 1)[0]}
    seen = {mode: other.reset(seed=0, options=task) for mode, other in made.items()}
    assert seen["text"][0] == seen["html"][1]["raw_obs"] == seen["url"][1]["raw_obs"]
    assert seen["url"][0] == "http://127.0.0.1:3000/0"
    assert "[button] Search [button_]" in seen["text_rich"][0] and seen["html"][0].startswith("<!")
    for action in ("search[shirt]", "click[next >]", "click[back to search]"):
        steps = {mode: other.step(action) for mode, other in made.items()}
        assert len({step[4]["raw_obs"] for step in steps.values()}) == 1
        assert len({tuple(step[4]["admissible_actions"]) for step in steps.values()}) == 1
    with pytest.raises(BadOptionError, match="unknown observation_mode 'pdf'"):
        aem_envs.make_env("aem/WebShop-v0", observation_mode="pdf")


def test_the_original_tells_the_score_on_its_last_page_and_we_do_not(env):
    task = env.task_ids("test", 1)[0]
    _, actions = play(env, "expert", task)
    original = aem_envs.make_env("aem/WebShop-v0", compat="original")
    for other, leaks in ((env, False), (original, True)):
        other.reset(options={"task_id": task})
        for action in actions:
            observation = other.step(action)[0]
        assert ("Your score (min 0.0, max 1.0) [SEP] 1.0" in observation) == leaks
    with pytest.raises(BadOptionError, match="compat"):
        aem_envs.make_env("aem/WebShop-v0", compat="verl")


@pytest.mark.parametrize("mode", ["text", "text_rich", "html", "url"])
def test_anchors_differ_where_observations_do(mode):
    env = aem_envs.make_env("aem/WebShop-v0", products=20, observation_mode=mode)
    env.reset(seed=0)
    before, *_, info = env.step("search[<r> x]")
    env.step(info["admissible_actions"][-1])
    after, *_, again = env.step("click[< prev]")
    assert (before == after) == (info["anchor"] == again["anchor"]) == (mode in ("text", "url")), (
        "what was seen is marked"
    )


def test_fifty_results_on_five_pages(env):
    env.reset(seed=0)
    pages = [
        env.step(action)[4] for action in ("search[for]", "search[price lower women shoes]", *["click[next >]"] * 5)
    ]
    assert "Total results: 0" in pages[0]["raw_obs"] and "Page 1 (Total results: 50)" in pages[1]["raw_obs"]
    assert [len(page["admissible_actions"]) for page in pages[1:]] == [13, 14, 14, 14, 14, 4]


@pytest.mark.parametrize("mode", ["text", "text_rich", "html"])
def test_the_last_page_tells_nothing_in_any_mode(mode):
    env = aem_envs.make_env("aem/WebShop-v0", products=20, observation_mode=mode)
    env.reset(options={"task_id": env.task_ids("train", 1)[0]})
    env.step("search[<r> x]")
    env.step(next(action for action in env.session.actions() if action.startswith("click[b0")))
    bought, *_, info = env.step("click[buy now]")
    assert "Thank you" in bought and info["raw_obs"] == "Thank you for shopping with us!"
    assert not any(word in bought for word in ("score", "Reward", "Target", env.goal.instruction, str(info["score"])))


def test_the_original_never_draws_the_first_goal_and_we_do():
    counts = {}
    for compat in (None, "original"):
        env = aem_envs.make_env("aem/WebShop-v0", products=60, split="test", compat=compat)
        env.reset(seed=5)
        ids = env.task_ids("test")
        drawn = [env.reset()[1]["task_id"] for _ in range(60 * len(ids))]
        counts[compat] = [drawn.count(task_id) / 60 for task_id in ids]
    assert all(0.5 < count < 1.6 for count in counts[None])
    first, *others, last = counts["original"]
    assert first == 0 and all(0.5 < count < 1.6 for count in others) and 1.4 < last < 2.6


def test_tasks_are_numbered_through_all_splits(env):
    ids = {split: env.task_ids(split) for split in env.splits}
    assert env.splits == ("train", "dev", "test") and env.split == "train"
    assert ids["test"][0] == "1000/human/00000" and ids["dev"][0] == f"1000/human/{len(ids['test']):05d}"
    assert sum(map(len, ids.values())) == env.store.n_goals
    families = {
        split: {family_of(number_of(env.store.goal(int(task_id[-5:])).asin)) for task_id in found}
        for split, found in ids.items()
    }
    assert all(not families[one] & families[other] for one, other in pairwise(["train", "dev", "test", "train"]))


@pytest.mark.parametrize(
    "task_id",
    [
        "",
        "human/00000",
        "1000/synthetic/00000",
        "1000/human/99999",
        "1000/human/1",
        "1000/human/000001",
        "1000/human/-0001",
        "1000/human/\u0661\u0661\u0661\u0661\u0661",
        "1000/human/" + "9" * 500,
    ],
)
def test_unknown_tasks_are_refused(env, task_id):
    with pytest.raises(BadOptionError, match="task_id"):
        env.reset(options={"task_id": task_id})


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"source": "amazon"}, "unknown source"),
        ({"goals": "robot"}, "unknown kind of goals"),
        ({"tagger": "nltk"}, "unknown tagger"),
        ({"products": 0}, "products"),
        ({"products": "many"}, "products"),
        ({"products": True}, "products"),
        ({"data": "x"}, "source=official"),
        ({"data": 5, "source": "official"}, "data is a path"),
        ({"cache": 7}, "cache is a path"),
        ({"tagger": "lexicon"}, "source=official"),
        ({"split": "valid_seen"}, "unknown split"),
        ({"max_steps": 0}, "max_steps"),
    ],
)
def test_settings_that_cannot_be(settings, word):
    with pytest.raises(BadOptionError, match=word):
        aem_envs.make_env("aem/WebShop-v0", **settings)


def test_prices_and_goals_are_the_same_in_every_process():
    script = (
        "import aem_envs, hashlib\n"
        "store = aem_envs.make_env('aem/WebShop-v0').store\n"
        "seen = [store.goal(n) for n in range(0, store.n_goals, 7)], [store.product(n).price for n in range(1000)]\n"
        "print(hashlib.sha256(repr(seen).encode()).hexdigest())\n"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": seed}
        ).stdout
        for seed in "12"
    }
    assert len(runs) == 1 and runs != {""}


def test_limits_hold_for_the_wanted_product_and_not_for_dear_ones(env):
    for number in range(0, env.store.n_goals, 17):
        goal = env.store.goal(number)
        product = env.store.product(env.store.find(goal.asin))
        assert product.price < goal.price_upper
        assert goal.price_upper == 1e6 or f", and price lower than {goal.price_upper:.2f} dollars" in goal.instruction


def test_info_says_what_was_played_on(env):
    _, info = env.reset(seed=0)
    assert info["engine"] == "embedded-1000/1000-products/nouns-vocabulary"
    assert info["data_hash"] == EmbeddedCatalogue(1000).data_hash
    assert info["task_type"] in ("beauty", "garden", "grocery", "electronics", "fashion")
    small = aem_envs.make_env("aem/WebShop-v0", products=60).reset(seed=0)[1]
    assert small["data_hash"] != info["data_hash"] and small["engine"].startswith("embedded-60/60-products")


def test_random_actions_follow_from_info_and_generator_alone(env):
    _, info = env.reset(seed=0)
    other = aem_envs.make_env("aem/WebShop-v0", products=60)
    assert [env.random_action(info, random.Random(n)) for n in range(50)] == [
        other.random_action(info, random.Random(n)) for n in range(50)
    ]
    assert all(
        action.startswith("search[") and "<" not in action for action in [env.random_action(info, random.Random(3))]
    )


def test_snapshots_of_another_shop_are_refused(env):
    env.reset(seed=0)
    other = aem_envs.make_env("aem/WebShop-v0", products=60)
    other.reset(seed=0)
    with pytest.raises(BadStateError, match="another catalogue"):
        other.set_state(env.get_state())


def test_nothing_goes_on_after_the_purchase(env):
    play(env, "expert", env.task_ids("test", 1)[0])
    state = env.get_state()
    env.set_state(state)
    assert b'"running":false' in state
    with pytest.raises(BadStateError, match="runs on after the purchase"):
        env.set_state(state.replace(b'"running":false', b'"running":true'))


def test_a_snapshot_after_the_purchase_keeps_the_score(env):
    task = env.task_ids("test", 1)[0]
    play(env, "expert", task)
    twin = pickle.loads(pickle.dumps(env))
    assert twin.last_score == env.last_score and twin.get_state() == env.get_state()


def test_a_pickled_environment_does_not_carry_the_shop(env):
    env.reset(seed=0)
    assert len(pickle.dumps(env)) < 20_000
