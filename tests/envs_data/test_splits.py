"""The splits are fixed, and nothing of one is in another."""

import pytest

from envs_data.alfworld.generator import generate
from envs_data.alfworld.goals import read_sentence
from envs_data.alfworld.manifest import MANIFESTS, manifest_hash, problem_hash
from envs_data.alfworld.problem import TASK_TYPES
from envs_data.alfworld.rooms import ROOMS, SIZES, TRAIN_LAYOUTS, UNSEEN_LAYOUTS, Size, layout
from envs_data.alfworld.splits import VALID_GAMES, parse_task_id, scheduled_type, task_ids
from envs_data.alfworld.vocabulary import type_of
from envs_data.errors import UnknownSplitError, UnknownTaskError


@pytest.mark.parametrize("size", SIZES)
def test_splits_are_the_recorded_ones(size: Size) -> None:
    assert manifest_hash(size) == MANIFESTS[size], "games changed: raise generator.VERSION and record the new hash"


def _pair(task: str) -> tuple[str, str]:
    goal = read_sentence(task)
    return goal.kind, goal.to


@pytest.mark.parametrize("size", SIZES)
def test_nothing_leaks(size: Size) -> None:
    train = [generate("train", n, size=size) for n in range(1500)]
    seen = [generate("valid_seen", n, size=size) for n in range(VALID_GAMES)]
    unseen = [generate("valid_unseen", n, size=size) for n in range(VALID_GAMES)]
    hashes = [{problem_hash(p) for p in games} for games in (train, seen, unseen)]
    assert [len(h) for h in hashes[1:]] == [VALID_GAMES, VALID_GAMES], "no game twice"
    assert not (hashes[0] & hashes[1] or hashes[0] & hashes[2] or hashes[1] & hashes[2])
    train_pairs, seen_pairs, unseen_pairs = ({_pair(p.task) for p in games} for games in (train, seen, unseen))
    assert not unseen_pairs & (train_pairs | seen_pairs)
    assert len(unseen_pairs) > 20 and len(train_pairs) > 100

    def furniture(problem: object) -> frozenset[str]:
        return frozenset(name for name, kind in problem.objects if kind == "receptacle")  # type: ignore[attr-defined]

    assert not {furniture(p) for p in unseen} & {furniture(p) for p in (*train, *seen)}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("room", ROOMS)
def test_unseen_layouts_have_other_furniture(size: Size, room: str) -> None:
    counts = []
    for number in range(TRAIN_LAYOUTS[size] + UNSEEN_LAYOUTS[size]):
        counts.append(tuple(sorted(map(type_of, layout(size, room, number).receptacles))))  # type: ignore[arg-type]
    assert len(set(counts)) == len(counts)


def test_content_decides_between_seen_and_train(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever index is asked for, no train game can be one of valid_seen."""
    from envs_data.alfworld import generator

    rule, verdicts = generator.belongs_to_seen, []
    monkeypatch.setattr(generator, "belongs_to_seen", lambda content: verdicts.append(rule(content)) or verdicts[-1])
    for index in range(100):
        generate("train", 900_000 + index)
        assert verdicts[-1] is False
        generate("valid_seen", index)
        assert verdicts[-1] is True


def test_every_task_has_one_id() -> None:
    own, *others = sorted(TASK_TYPES, key=lambda kind: kind != scheduled_type("train", 7))
    canonical = ["small/train/000007", "small/train/1234567", *(f"small/train/000007/{kind}" for kind in others)]
    assert [str(parse_task_id(task_id)) for task_id in canonical] == canonical
    for task_id in ("small/train/7", "small/train/0000007", f"small/train/000007/{own}", f"small/train/7/{own}"):
        with pytest.raises(UnknownTaskError, match="'small/train/000007'"):
            parse_task_id(task_id)


def test_task_ids() -> None:
    ids = task_ids("valid_seen", size="official")
    assert len(ids) == VALID_GAMES
    assert (ids[0], ids[-1]) == ("official/valid_seen/000000", "official/valid_seen/000503")
    assert list(task_ids("train", 3)) == ["small/train/000000", "small/train/000001", "small/train/000002"]
    assert list(ids[2:4]) == ["official/valid_seen/000002", "official/valid_seen/000003"]
    assert len(task_ids("valid_unseen", 10_000)) == VALID_GAMES
    for limit in (-1, 2.0, True, "3"):
        with pytest.raises(UnknownTaskError, match="integer from 0"):
            task_ids("valid_seen", limit)  # type: ignore[arg-type]
    with pytest.raises(UnknownTaskError, match="unlimited"):
        task_ids("train")
    with pytest.raises(UnknownSplitError):
        task_ids("nope")
