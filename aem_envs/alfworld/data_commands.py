"""What the subcommands of `aem-data alfworld` do. Each takes the parsed arguments and returns the exit code."""

import argparse
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from aem_envs.sanitize import counted, plain
from aem_suite.data_cli import ALFWORLD_HOME


def _ls(options: argparse.Namespace) -> int:
    rows = [{"task_id": i, "task_type": kind, "task": task} for i, kind, task in _tasks(options)]
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            print(plain("  ".join(row.values())))
    return 0


def _tasks(options: argparse.Namespace) -> list[tuple[str, str, str]]:
    """(task id, task type, task sentence) of the first tasks of a split."""
    from envs_data.alfworld.generator import problem_for
    from envs_data.alfworld.goals import read_sentence
    from envs_data.alfworld.official import OfficialData
    from envs_data.alfworld.splits import task_ids

    if options.source == "official":
        data = OfficialData(options.data)
        games = data.games(options.split)[: options.n]
        return [(game.task_id, game.task_type, data.load(game.task_id).task) for game in games]
    found = [(task_id, problem_for(task_id).task) for task_id in task_ids(options.split, options.n, size=options.size)]
    return [(task_id, read_sentence(task).task_type, task) for task_id, task in found]


def _stats(options: argparse.Namespace) -> int:
    found = _official_stats(options.data) if options.source == "official" else _embedded_stats(options.size)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        splits: dict[str, dict[str, Any]] = found.pop("splits")
        for key, value in found.items():
            print(plain(f"{key}: {value}"))
        for split, facts in splits.items():
            print(plain(f"{split}: " + ", ".join(f"{key} {value}" for key, value in facts.items())))
    return 0


def _embedded_stats(size: str) -> dict[str, Any]:
    from envs_data.alfworld.generator import VERSION
    from envs_data.alfworld.manifest import MANIFESTS
    from envs_data.alfworld.problem import TASK_TYPES
    from envs_data.alfworld.rooms import TRAIN_LAYOUTS, UNSEEN_LAYOUTS
    from envs_data.alfworld.splits import VALID_GAMES, check_size

    each = VALID_GAMES // len(TASK_TYPES)
    valid = {"games": VALID_GAMES, **dict.fromkeys(TASK_TYPES, each)}
    layouts = f"{TRAIN_LAYOUTS} per kind of room"
    return {
        "source": "embedded",
        "version": VERSION,
        "size": check_size(size),
        "manifest_sha256": MANIFESTS[check_size(size)],
        "splits": {
            "train": {"games": "unlimited", "task types": "equally many", "layouts": layouts},
            "valid_seen": {**valid, "layouts": layouts + " (those of train)"},
            "valid_unseen": {**valid, "layouts": f"{UNSEEN_LAYOUTS} per kind of room (none of train's)"},
        },
    }


def _official_stats(data: str | None) -> dict[str, Any]:
    from envs_data.alfworld.official import CATEGORIES, OfficialData

    official = OfficialData(data)
    splits = {}
    for split in official.splits:
        games = official.games(split)
        counts = Counter(game.category for game in games)
        splits[split] = {
            "games": len(games),
            **{name: counts[name] for name in CATEGORIES.values()},
            "dropped": official.dropped(split),
            "hash": official.data_hash(split),
        }
    return {"source": "official", "folder": str(official.folder), "splits": splits}


def _export(options: argparse.Namespace) -> int:
    from aem_envs.alfworld.expert import walkthrough
    from aem_envs.cli_common import CliError
    from envs_data.alfworld.export import export_games, installed_rules, rules_from

    if options.dialect == "old" and options.grammar_from is None:
        raise CliError("the old dialect's rules are in no package: name an official game file with --grammar-from FILE")
    rules = rules_from(options.grammar_from) if options.grammar_from else installed_rules()
    if rules.dialect is not None and rules.dialect != options.dialect:
        raise CliError(f"these rules speak the {rules.dialect} dialect: say --dialect {rules.dialect}")
    paths = export_games(
        options.out,
        split=options.split,
        count=options.n,
        size=options.size,
        rules=rules,
        start=options.start,
        walkthrough=walkthrough if options.walkthrough else None,
    )
    written = sum(1 for _ in paths)
    out = plain(str(options.out))
    print(f"{counted(written, 'game')} written below {out}; to play, set ALFWORLD_DATA={out}")
    return 0


def _download(options: argparse.Namespace) -> int:
    from aem_envs.cli_progress import byte_bars
    from envs_data.alfworld.download import download

    to = (options.to or Path(os.environ.get("ALFWORLD_DATA") or ALFWORLD_HOME)).expanduser()
    with byte_bars() as progress:
        fetched = download(to, progress=progress, force=options.force)
    print(f"{', '.join(fetched) or 'nothing new'}; set ALFWORLD_DATA={plain(str(to))}")
    return 0


COMMANDS = {"ls": _ls, "stats": _stats, "export": _export, "download": _download}
