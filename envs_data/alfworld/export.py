"""Write embedded games as the files and folders of the official distribution, for the real engine to play.

The rules a game file carries (domain and grammar) are not ours to ship: they are taken from the installed alfworld, or
from a game file the user has.
"""

import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from envs_data.alfworld.generator import generate
from envs_data.alfworld.goals import Goal, read_sentence
from envs_data.alfworld.problem import Dialect, Problem
from envs_data.alfworld.splits import TaskId, check_index, check_size, check_split
from envs_data.alfworld.tw_pddl import KNOWN_DIALECTS, domain_hash, grammar_hash, render_game
from envs_data.alfworld.vocabulary import BY_WORD
from envs_data.errors import DataUnavailableError, GameFileError

FOLDER = "json_2.1.1"
"""Name of the data folder, as alfworld's own configuration expects it in both dialects."""


@dataclass(frozen=True)
class Rules:
    """What a game file needs besides its problem."""

    domain: str
    """PDDL domain."""
    grammar: str
    """TextWorld grammar; the place of its task sentence is filled per game."""

    @property
    def dialect(self) -> Dialect | None:
        """Which known dialect these are; None for rules we do not know."""
        return KNOWN_DIALECTS.get((domain_hash(self.domain), grammar_hash(self.grammar)))


def installed_rules() -> Rules:
    """The rules in the installed alfworld package, found without importing it; raises `DataUnavailableError`."""
    spec = importlib.util.find_spec("alfworld")
    if spec is None or not spec.submodule_search_locations:
        raise DataUnavailableError(
            'the game rules come from the alfworld package, which is not installed: pip install "aem-suite[alfworld]", '
            "or take them from a game file you have with --grammar-from FILE"
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    try:
        return Rules((folder / "alfred.pddl").read_text("utf-8"), (folder / "alfred.twl2").read_text("utf-8"))
    except OSError as error:
        raise DataUnavailableError(f"the installed alfworld lacks its rules ({error}); reinstall it") from error


def rules_from(game_file: Path) -> Rules:
    """The rules inside a `game.tw-pddl`; raises `GameFileError`."""
    try:
        game = json.loads(game_file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise GameFileError(f"cannot take rules from {game_file}: {error}; name a complete game.tw-pddl") from error
    domain, grammar = (game.get(key) if isinstance(game, dict) else None for key in ("pddl_domain", "grammar"))
    if not isinstance(domain, str) or not isinstance(grammar, str):
        raise GameFileError(f"cannot take rules from {game_file}: no pddl_domain and grammar; name a game.tw-pddl")
    return Rules(domain, grammar)


def trajectory(task: TaskId, problem: Problem, goal: Goal) -> dict[str, object]:
    """The part of `traj_data.json` that alfworld reads for text games."""
    look = goal.task_type == "look_at_obj_in_light"
    return {
        "task_id": f"trial_{problem.name}",
        "task_type": goal.task_type,
        "pddl_params": {
            "mrecep_target": "",
            "object_sliced": False,
            "object_target": goal.kind,
            "parent_target": "" if look else goal.to,
            "toggle_target": goal.to if look else "",
        },
        "turk_annotations": {"anns": [{"task_desc": problem.task, "high_descs": []}]},
        "embedded_task": str(task),
    }


def export_games(
    out: Path,
    *,
    split: str,
    count: int,
    size: str = "small",
    rules: Rules,
    start: int = 0,
    walkthrough: Callable[[Problem], Sequence[str]] | None = None,
) -> Iterator[Path]:
    """Write `count` games below `out/json_2.1.1/<split>/`, yielding each `game.tw-pddl` as it is written.

    A game that is there already is left as it is; one under the same name that is not the same is never replaced. The
    dialect is that of `rules`. `walkthrough`, where given, solves each game for the file's optional field.

    Raises:
        UnknownSplitError, UnknownTaskError: no such split, size, or not so many games in it.
        GameFileError: rules of no known dialect; a file in the way.
    """
    dialect = rules.dialect
    if dialect is None:
        raise GameFileError(
            "the domain and grammar are of no known dialect (another alfworld version?); "
            "use alfworld 0.4.2, or --grammar-from with an official game file"
        )
    side, scale = check_split(split), check_size(size)
    check_index(side, start)
    check_index(side, start + max(count, 1) - 1)
    for index in range(start, start + count):
        task = TaskId(scale, side, index)
        problem = generate(side, index, size=scale, dialect=dialect)
        asked = read_sentence(problem.task)
        goal = Goal(asked.task_type, BY_WORD[asked.kind], BY_WORD[asked.to])
        folder = out / FOLDER / side / f"{goal.task_type}-{goal.kind}-None-{goal.to}-{index}" / f"trial_{problem.name}"
        folder.mkdir(parents=True, exist_ok=True)
        plan = walkthrough(problem) if walkthrough else None
        game = render_game(problem, domain=rules.domain, grammar=rules.grammar, walkthrough=plan)
        _write_new(folder / "traj_data.json", json.dumps(trajectory(task, problem, goal), indent=1))
        path = folder / "game.tw-pddl"
        _write_new(path, game)
        yield path


def _write_new(path: Path, text: str) -> None:
    """Write a file whole, unless it holds that text already; `GameFileError` where it would replace anything else."""
    content = text.encode()
    if path.is_file() and path.read_bytes() == content:
        return
    if path.exists() or path.is_symlink():
        raise GameFileError(f"{path} exists and is not what would be written: choose another --out")
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(content)
    fresh.replace(path)
