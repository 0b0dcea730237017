"""`aem/ALFWorld-v0`: options, filters, endings, snapshots, official games, the real engine behind the same API."""

import copy
import json
import pickle
import shutil
import tracemalloc

import gymnasium as gym
import pytest

import aem_envs
from aem_envs import BadOptionError, BadStateError, InfrastructureError
from aem_envs.alfworld import real_play
from aem_envs.alfworld.engine import Game
from aem_envs.checks import check_text_env
from envs_data.alfworld.problem import TASK_TYPES
from envs_data.errors import DataUnavailableError, GameFileError


def make(**settings):
    return aem_envs.make_env("aem/ALFWorld-v0", **settings)


def play(env, expert, **reset):
    """An expert's episode: its actions and the last info."""
    observation, info = env.reset(**reset)
    expert.reset(env, observation, info)
    actions, done = [], False
    while not done:
        actions.append(expert.act(observation, info))
        observation, reward, terminated, truncated, info = env.step(actions[-1])
        done = terminated or truncated
    assert reward == info["score"] == float(info["won"]) and terminated == info["won"]
    return actions, info


def test_reset_tells_room_and_task_without_the_banner():
    env = gym.make("aem_envs:aem/ALFWorld-v0")
    observation, info = env.reset(seed=7)
    room, _, task = observation.partition("\n\n")
    assert room.startswith("You are in the middle of a room. Looking quickly around you, you see a ")
    assert task.startswith("Your task is to: ") and info["raw_obs"].endswith(observation) != (
        info["raw_obs"] == observation
    )
    assert info["engine"] == "native/current" and info["task_type"] in TASK_TYPES and info["seed"] == 7


@pytest.mark.parametrize("dialect", ["current", "old"])
@pytest.mark.parametrize("size", ["small", "medium", "official"])
def test_every_size_and_dialect_is_won_by_the_expert(size, dialect):
    env = make(size=size, dialect=dialect)
    assert env.reset(seed=0)[1]["engine"] == f"native/{dialect}"
    wins = [play(env, aem_envs.make_expert("aem/ALFWorld-v0"), seed=seed)[1]["won"] for seed in range(12)]
    assert all(wins)


def test_both_dialects_are_the_same_games():
    new, old = make(dialect="current"), make(dialect="old")
    task = {"task_id": new.task_ids("valid_unseen", 1)[0]}
    (_, first), (_, second) = new.reset(options=task), old.reset(options=task)
    assert first["data_hash"] == second["data_hash"] and first["task_type"] == second["task_type"]
    assert "help" in first["admissible_actions"] and "help" not in second["admissible_actions"]


def test_task_types_filter_lists_and_draws():
    env = make(task_types="look_at_obj_in_light, pick_two_obj_and_place")
    wanted = {"look_at_obj_in_light", "pick_two_obj_and_place"}
    assert {env.reset(seed=seed)[1]["task_type"] for seed in range(20)} == wanted
    assert len(env.task_ids("valid_seen")) == 504 // 3
    for task_id in env.task_ids("train", 6):
        assert env.reset(options={"task_id": task_id})[1]["task_type"] in wanted


def test_drawn_train_tasks_hardly_repeat():
    env = make()
    env.reset(seed=1)
    assert len({env.reset()[1]["task_id"] for _ in range(50)}) == 50


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"source": "oficial"}, BadOptionError, "embedded, official"),
        ({"engine": "fast"}, BadOptionError, "native, textworld, auto"),
        ({"dialect": "klingon"}, BadOptionError, "old, current"),
        ({"split": "test"}, BadOptionError, "valid_unseen"),
        ({"size": "huge"}, BadOptionError, "unknown size 'huge'; known: small, medium, official"),
        ({"task_types": "cook"}, BadOptionError, "pick_and_place_simple"),
        ({"task_types": ["pick_and_place_simple", []]}, BadOptionError, "unknown task type"),
        ({"task_types": ""}, BadOptionError, "unknown task type ''"),
        ({"task_types": ()}, BadOptionError, "names no task type"),
        ({"task_types": iter([])}, BadOptionError, "names no task type"),
        ({"task_types": 5}, BadOptionError, "names of task types"),
        ({"source": "official", "dialect": "old"}, BadOptionError, "dialect is a setting of source=embedded"),
        ({"source": "official", "size": "medium"}, BadOptionError, "size is a setting of source=embedded"),
        ({"data": "/nowhere/at/all"}, BadOptionError, "data is a setting of source=official"),
        ({"source": "official", "data": "/nowhere/at/all"}, DataUnavailableError, "/nowhere/at/all"),
    ],
)
def test_bad_arguments_are_refused(settings, error, said):
    with pytest.raises(error, match=said):
        make(**settings)


@pytest.mark.parametrize(
    "task_id",
    [
        "",
        "small/train/-1",
        "small/train/1e3",
        "small/train/1",
        "small/train/0000001",
        "x/train/000001",
        "small/valid_seen/000504",
        "a" * 999,
    ],
)
def test_unknown_tasks_are_refused(task_id):
    with pytest.raises(BadOptionError):
        make().reset(options={"task_id": task_id})
    with pytest.raises(BadOptionError, match="split"):
        make().reset(options={"task_id": "small/train/000001", "split": "valid_seen"})
    with pytest.raises(BadOptionError, match="limit"):
        make().task_ids("train")


def test_case_and_spaces_do_not_matter():
    env = make()
    _, info = env.reset(seed=0)
    action = info["admissible_actions"][0]
    *_, info = env.step(f"  {action.upper().replace(' ', '   ')}\n")
    assert info["action_valid"] and info["parsed_action"] == action
    *_, info = env.step("go to nowhere 1")
    assert info["action_valid"] is False and info["parsed_action"] == "go to nowhere 1" and info["action_error"]


def test_same_decision_point_same_anchor():
    env = make()
    _, info = env.reset(seed=0)
    there = [action for action in info["admissible_actions"] if action.startswith("go to")]
    first = env.step(there[0])[-1]["anchor"]
    second = env.step(there[1])[-1]["anchor"]
    assert first != second and env.step(there[0])[-1]["anchor"] == first
    env.reset(options={"task_id": info["task_id"]})
    assert env.step(there[0])[-1]["anchor"] == first


def test_snapshots_cross_tasks_and_refuse_foreign_ones():
    env, other = make(), make()
    _, info = env.reset(seed=0)
    env.step(info["admissible_actions"][0])
    state = env.get_state()
    other.reset(seed=99)
    other.set_state(state)
    assert other.get_state() == state and other.step("look") == env.step("look")
    plain = json.loads(state)
    for change in (
        {"data_hash": "0" * 16},
        {"dialect": "old"},
        {"task_id": "small/train/000000"},
        {"steps": 51},
        {"game": {}},
    ):
        before = env.get_state()
        with pytest.raises(BadStateError):
            env.set_state(json.dumps({**plain, **change}).encode())
        assert env.get_state() == before
    with pytest.raises(BadStateError, match="dialect"):
        make(dialect="old").set_state(state)


def test_copies_share_the_game_but_not_the_episode():
    env = make(size="official")
    env.reset(seed=0)
    twin, pickled = copy.deepcopy(env), pickle.loads(pickle.dumps(env))
    assert twin.game.world is env.game.world is pickled.game.world and twin.game is not env.game
    assert len(pickle.dumps(env)) < 5_000


def test_another_episode_of_a_loaded_game_is_small():
    task = {"task_id": "official/train/000003"}
    make(size="official").reset(seed=0, options=task)
    made = [make(size="official") for _ in range(20)]
    tracemalloc.start()
    for env in made:
        env.reset(seed=0, options=task)
    size = tracemalloc.get_traced_memory()[0] / len(made)
    tracemalloc.stop()
    assert size < 20_000


def test_official_games(official_alfworld, monkeypatch):
    monkeypatch.setenv("ALFWORLD_DATA", str(official_alfworld))
    env = gym.make("aem/ALFWorld-v0", source="official").unwrapped
    ids = env.task_ids("valid_seen")
    assert env.splits == ("valid_seen",) and len(ids) == 36 and list(ids) == sorted(ids)
    _, info = env.reset(seed=0)
    assert info["engine"] == "native/old" and info["split"] == "valid_seen" and len(info["data_hash"]) == 16
    check_text_env(env)
    expert = aem_envs.make_expert("aem/ALFWorld-v0")
    assert all(play(env, expert, options={"task_id": task_id})[1]["won"] for task_id in ids)
    looking = make(source="official", data=str(official_alfworld), task_types=("look_at_obj_in_light",))
    assert len(looking.task_ids("valid_seen")) == 6 and looking.reset(seed=3)[1]["task_type"] == "look_at_obj_in_light"
    with pytest.raises(BadOptionError, match="train"):
        make(source="official", split="train")


def _damaged(official_alfworld, tmp_path, change):
    """A data folder with one game, its file changed by `change`."""
    game = sorted(official_alfworld.rglob("game.tw-pddl"))[0]
    target = tmp_path / game.parent.relative_to(official_alfworld)
    shutil.copytree(game.parent, target)
    (target / "game.tw-pddl").write_text(change(game.read_text()))
    return make(source="official", data=str(tmp_path), engine="native")


def test_the_data_hash_is_that_of_the_file_as_it_is_now(official_alfworld, tmp_path):
    env = _damaged(official_alfworld, tmp_path, lambda text: text)
    task_id = env.task_ids("valid_seen")[0]
    before = env.data_hash(task_id)
    (file,) = tmp_path.rglob("game.tw-pddl")
    file.write_text(file.read_text().replace('"solvable":', '"solvable": '))
    assert env.data_hash(task_id) != before
    assert env.data_hash(task_id) == env.reset(options={"task_id": task_id})[1]["data_hash"]
    with pytest.raises(BadOptionError):
        env.data_hash("nothing")


def test_damaged_and_unknown_game_files_are_typed_errors(official_alfworld, tmp_path):
    with pytest.raises(GameFileError, match=rf"{tmp_path}/cut/.*game\.tw-pddl: .* cut off"):
        _damaged(official_alfworld, tmp_path / "cut", lambda text: text[: len(text) // 2]).reset(seed=0)
    foreign = _damaged(official_alfworld, tmp_path / "foreign", lambda text: text.replace("(:action", "(:action ", 1))
    with pytest.raises(GameFileError, match="textworld"):
        foreign.reset(seed=0)
    with pytest.raises(aem_envs.ResetNeededError):
        foreign.step("look")


def test_broken_infrastructure_truncates_with_its_reason(monkeypatch):
    def breaks(self, command):
        raise InfrastructureError("the worker is gone")

    env = make()
    env.reset(seed=0)
    monkeypatch.setattr(Game, "step", breaks)
    _, reward, terminated, truncated, info = env.step("look")
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info["truncation_reason"].startswith("infra:InfrastructureError") and info["action_valid"] is False
    monkeypatch.undo()
    assert env.reset(seed=0)[1]["truncation_reason"] is None


@pytest.mark.slow
@pytest.mark.realengine
def test_the_real_engine_gives_the_same_episode():
    pytest.importorskip("alfworld")
    native, real = make(), make(engine="textworld")
    try:
        actions, _ = play(native, aem_envs.make_expert("aem/ALFWorld-v0"), seed=3)
        (first, info), (second, real_info) = native.reset(seed=3), real.reset(seed=3)
        assert (
            first == second
            and real_info["engine"].startswith("textworld-1.7")
            and real_info["engine"].endswith("/current")
        )
        for action in ["nonsense", *actions]:
            (text, *ends, info), (real_text, *real_ends, real_info) = native.step(action), real.step(action)
            assert (text, ends) == (real_text, real_ends)
            for key in info.keys() - {"engine", "anchor"}:
                assert info[key] == real_info[key], key
        assert info["won"]
        state = real.get_state()
        real.reset()
        real.set_state(state)
        assert real.get_state() == state
        assert [worker.alive for worker in real_play._leases] == [True]
    finally:
        real.close()
    assert not real_play._leases


@pytest.mark.slow
@pytest.mark.realengine
def test_auto_takes_the_real_engine_for_unknown_rules(official_alfworld, tmp_path):
    pytest.importorskip("alfworld")
    _damaged(official_alfworld, tmp_path, lambda text: text.replace("(:action", "(:action ", 1))
    env = make(source="official", data=str(tmp_path), engine="auto")
    try:
        observation, info = env.reset(seed=0)
        assert info["engine"].startswith("textworld") and info["engine"].endswith("/unknown")
        assert "Your task is to: " in observation and env.step(info["admissible_actions"][0])[-1]["action_valid"]
    finally:
        env.close()


def test_textworld_speaks_only_the_installed_dialect():
    pytest.importorskip("alfworld")
    with pytest.raises(BadOptionError, match="current"):
        make(engine="textworld", dialect="old")
