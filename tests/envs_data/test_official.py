"""Official games: the same ones that alfworld keeps, and clear answers where data is missing or damaged."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from envs_data.alfworld.official import CATEGORIES, SPLITS, OfficialData, find_folder
from envs_data.alfworld.problem import TASK_TYPES
from envs_data.errors import DataUnavailableError, GameFileError, UnknownSplitError, UnknownTaskError


def _make(folder: Path, name: str, *, solvable: object = True, task_type: str = TASK_TYPES[0], tail: str = "") -> Path:
    """A trajectory folder as small as can be."""
    place = folder / name / "trial_T1"
    place.mkdir(parents=True)
    (place / "traj_data.json").write_text(json.dumps({"task_type": task_type}))
    game = {"pddl_problem": "", "solvable": solvable} | ({"walkthrough": [tail]} if tail else {})
    (place / "game.tw-pddl").write_text(json.dumps(game))
    return place


@pytest.fixture
def made(tmp_path: Path) -> Path:
    split = tmp_path / "json_2.1.3" / "train"
    _make(split, "pick_and_place_simple-Mug-None-Shelf-1")
    _make(split, "pick_and_place_simple-Apple-None-Shelf-1", tail="go to shelf 1 " * 20)
    _make(split, "pick_and_place_simple-Pen-None-Shelf-1", solvable=False)
    _make(split, "pick_and_place_simple-Cup-None-Shelf-1", solvable=False, tail='"solvable": true' * 9)
    _make(split, "pick_and_place_with_movable_recep-Pen-Cup-Shelf-1")
    _make(split, "pick_heat_then_place_in_recep-AppleSliced-None-Fridge-1", task_type=TASK_TYPES[3])
    _make(split, "renamed", task_type="pick_two_obj_and_place")
    _make(split, "other", task_type="make_coffee")
    (_make(split, "pick_and_place_simple-Box-None-Shelf-1") / "game.tw-pddl").unlink()
    (_make(split, "pick_and_place_simple-Egg-None-Shelf-1") / "traj_data.json").unlink()
    return tmp_path


def test_filters_order_and_types(made: Path) -> None:
    data = OfficialData(made)
    assert data.folder == made / "json_2.1.3" and data.splits == ("train",)
    games = data.games("train")
    names = [game.task_id.split("/")[1] for game in games]
    assert names == ["pick_and_place_simple-Apple-None-Shelf-1", "pick_and_place_simple-Mug-None-Shelf-1", "renamed"]
    assert [game.category for game in games] == ["Pick", "Pick", "Pick2"]
    assert sum(data.dropped("train").values()) == 6
    assert [game.task_id for game in data.games("train", ["pick_two_obj_and_place"])] == ["train/renamed/trial_T1"]
    assert OfficialData(made / "json_2.1.3").folder == data.folder


def test_a_version_without_games_gives_way(made: Path) -> None:
    (_make(made / "json_2.1.1" / "train", "pick_and_place_simple-Mug-None-Shelf-1") / "game.tw-pddl").unlink()
    assert OfficialData(made).folder == made / "json_2.1.3"
    _make(made / "json_2.1.1" / "train", "pick_and_place_simple-Cup-None-Shelf-1")
    assert OfficialData(made).folder == made / "json_2.1.1"


def test_hash_follows_the_files(made: Path) -> None:
    before = OfficialData(made).data_hash("train")
    assert OfficialData(made).data_hash("train") == before
    shutil.rmtree(made / "json_2.1.3/train/renamed")
    assert OfficialData(made).data_hash("train") != before


def test_sample_is_listed_as_by_alfworld(official_alfworld: Path) -> None:
    data = OfficialData(official_alfworld)
    games = data.games("valid_seen")
    assert Counter(game.category for game in games) == dict.fromkeys(CATEGORIES.values(), 6)
    assert [game.task_id for game in games] == sorted(game.task_id for game in games)
    assert data.splits == ("valid_seen",)
    for game in games[::9]:
        problem = data.load(game.task_id)
        assert problem.dialect == "old" and problem.task


@pytest.mark.realengine
def test_alfworld_itself_keeps_the_same(official_alfworld: Path, made: Path) -> None:
    pytest.importorskip("alfworld")
    from alfworld.agents.environment.alfred_tw_env import AlfredTWEnv

    for folder, split in ((official_alfworld / "json_2.1.1", "valid_seen"), (made / "json_2.1.3", "train")):
        paths = {"data_path": folder / split, "eval_id_data_path": folder / split, "eval_ood_data_path": folder / split}
        config = {
            "env": {"goal_desc_human_anns_prob": 0, "task_types": [1, 2, 3, 4, 5, 6]},
            "dataset": {name: str(path) for name, path in paths.items()} | {"num_train_games": 0, "num_eval_games": 0},
        }
        theirs = AlfredTWEnv(config, train_eval="eval_in_distribution").game_files
        assert sorted(theirs) == sorted(str(game.path) for game in OfficialData(folder).games(split))


def test_missing_and_empty_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    for data in (None, tmp_path / "absent", tmp_path):
        with pytest.raises(DataUnavailableError, match="aem-data alfworld download"):
            find_folder(data)
    (tmp_path / "json_2.1.1" / "train").mkdir(parents=True)
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    with pytest.raises(DataUnavailableError, match="no playable game"):
        OfficialData().games("train")
    with pytest.raises(DataUnavailableError, match="no playable game"):
        OfficialData().games("valid_seen")


def test_unknown_names(made: Path) -> None:
    data = OfficialData(made)
    with pytest.raises(UnknownSplitError, match="known: train"):
        data.games("test")
    with pytest.raises(UnknownTaskError, match="known:"):
        data.games("train", ["make_coffee"])
    for task_id in ("", "train/../../secret", "/etc/passwd", "train/pick_and_place_simple-Pen-None-Shelf-1/trial_T1"):
        with pytest.raises(UnknownTaskError, match="no official game"):
            data.game(task_id)


def test_cut_off_game_is_listed_and_refused_when_loaded(made: Path) -> None:
    path = made / "json_2.1.3/train/pick_and_place_simple-Mug-None-Shelf-1/trial_T1/game.tw-pddl"
    path.write_text('{"pddl_domain": "(define')
    data = OfficialData(made)
    (task_id,) = [game.task_id for game in data.games("train") if game.path == path]
    with pytest.raises(GameFileError, match="cut off"):
        data.load(task_id)
    path.unlink()
    with pytest.raises(GameFileError, match="fetch the data again"):
        data.read(task_id)


def test_listing_parses_no_game(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: read.append(self) or original(self))
    for place in ("renamed", "other"):
        shutil.rmtree(made / "json_2.1.3" / "train" / place)
    for name in ("Apple", "Cup"):  # a walkthrough follows their mark
        shutil.rmtree(made / f"json_2.1.3/train/pick_and_place_simple-{name}-None-Shelf-1")
    assert len(OfficialData(made).games("train")) == 1
    assert not read
    assert SPLITS[0] == "train"
