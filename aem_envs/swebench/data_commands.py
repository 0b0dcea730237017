"""What the subcommands of `aem-data swebench` do. Each takes the parsed arguments and returns the exit code."""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from aem_envs.sanitize import counted, plain
from aem_envs.swebench.rooms import RoomMaker, swebench_cache
from aem_envs.swebench.sandbox.api import Limits
from aem_envs.swebench.sources import Tasks, open_tasks
from aem_envs.swebench.task import Task
from aem_suite.data_cli import SWEBENCH_HOME


def _tasks(options: argparse.Namespace) -> Tasks:
    if getattr(options, "file", None):
        options.source, options.data = "official", options.file
    official = options.source == "official"
    data = str(options.data) if options.data else None
    if options.data and not official:
        from aem_envs.cli_common import CliError

        raise CliError("--data goes with --source official")
    return open_tasks(options.source, data, options.specs, options.namespace, options.image)


def _chosen(options: argparse.Namespace, tasks: Tasks) -> list[Task]:
    from aem_envs.cli_common import CliError

    if options.split is not None and options.split not in tasks.splits:
        raise CliError(f"no split {options.split!r}; there are: {', '.join(tasks.splits)}")
    splits = [options.split] if options.split else list(tasks.splits)
    ids = [task_id for split in splits for task_id in tasks.ids(split)]
    if options.instance:
        ids = options.instance
    return [tasks.find(task_id) for task_id in ids[: options.n]]


def _ls(options: argparse.Namespace) -> int:
    rows = []
    for task in _chosen(options, _tasks(options)):
        title = task.instance.problem_statement.strip().partition("\n")[0][:100]
        tests = len(task.instance.FAIL_TO_PASS)
        kind = task.task_type
        rows.append({"task_id": task.id, "split": task.split, "type": kind, "failing": tests, "issue": title})
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            print(plain("  ".join(map(str, row.values()))))
    return 0


def _stats(options: argparse.Namespace) -> int:
    tasks = _tasks(options)
    found: dict[str, Any] = {"source": options.source}
    for split in tasks.splits:
        of_split = [tasks.find(task_id) for task_id in tasks.ids(split)]
        found[split] = {
            "tasks": len(of_split),
            "repositories": dict(sorted(Counter(task.instance.repo for task in of_split).items())),
            "types": dict(sorted(Counter(task.task_type for task in of_split).items())),
        }
    if options.source == "embedded":
        from envs_data.swebench.embedded import manifest_hash

        found["data_hash"] = manifest_hash()
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    for key, value in found.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for name, part in parts:
            text = ", ".join(f"{what} {n}" for what, n in part.items()) if isinstance(part, dict) else part
            print(plain(f"{key} {name}".strip() + f": {text}"))
    return 0


def _rooms(options: argparse.Namespace) -> RoomMaker:
    kind = options.sandbox or ("local" if options.source == "embedded" else "docker")
    return RoomMaker(options.source, kind, Limits(), None, options.allow_unsafe)


def _prepare(options: argparse.Namespace) -> int:
    from aem_envs.cli_progress import count_bar

    rooms, tasks = _rooms(options), _chosen(options, _tasks(options))
    with count_bar("repositories", len(tasks)) as progress:
        for done, task in enumerate(tasks, 1):
            rooms.room(task, _say)
            progress(done)
    print(f"ready for sandbox={rooms.kind}: {counted(len(tasks), 'task')}")
    return 0


def _validate(options: argparse.Namespace) -> int:
    from aem_envs.cli_progress import count_bar
    from aem_envs.swebench.validate import read_outcomes, validate, write_outcomes

    tasks = _chosen(options, _tasks(options))
    rooms = _rooms(options)
    out = options.out or swebench_cache() / "validated.jsonl"
    kept, count = read_outcomes(out), 0
    done = dict(kept) if options.out else {}
    with count_bar("instances", len(tasks)) as progress:

        def note(found: Any) -> None:
            nonlocal count
            count += 1
            kept[found.instance_id] = found
            write_outcomes(out, [kept[name] for name in sorted(kept)])
            progress(count)

        found = validate(tasks, rooms, timeout=options.timeout, done=done, on_each=note, workers=options.workers)
    bad = [each for each in found if not each.valid]
    if options.json:
        from dataclasses import asdict

        print(json.dumps([asdict(each) for each in found], indent=2))
    else:
        for each in bad:
            print(plain(f"{each.instance_id}: empty {each.empty}, gold {each.gold}: {each.note}"))
        print(f"{len(found) - len(bad)} of {counted(len(found), 'instance')} valid on this machine ({rooms.kind})")
        print(plain(f"outcomes: {out}"))
    return 1 if bad else 0


def _generate(options: argparse.Namespace) -> int:
    from aem_envs.cli_common import CliError
    from aem_envs.cli_progress import count_bar
    from aem_envs.swebench.generate import generate
    from aem_envs.swebench.trials import in_sandbox
    from envs_data.swebench.notices import notices_text
    from envs_data.swebench.packages import PACKAGES, package_named

    names = options.package or list(PACKAGES)
    packages = [package_named(name) for name in names]
    cache = swebench_cache()
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.out.is_dir():
        raise CliError(f"{options.out} is no folder")
    with count_bar("tasks", options.tasks * len(packages)) as progress:

        def told(package: str, made: int, wanted: int) -> None:
            progress(names.index(package) * options.tasks + made)

        run = in_sandbox(cache, options.sandbox or "local")
        made = generate(packages, options.tasks, options.seed, run, told, cache=cache, workers=options.workers)
        for name, text in made:
            (options.out / f"{name}.json").write_text(text, encoding="utf-8")
    (options.out / "NOTICES.txt").write_text(notices_text(packages, cache), encoding="utf-8")
    print(plain(f"{len(names)} files of tasks and NOTICES.txt written to {options.out}"))
    return 0


def _rows(options: argparse.Namespace) -> int:
    from envs_data.swebench.rows import write_jsonl

    tasks = _chosen(options, _tasks(options))
    instances = [task.instance for task in tasks]
    if options.docker:
        from dataclasses import replace

        rooms = RoomMaker(options.source, "docker", Limits())
        instances = [replace(task.instance, image=str(rooms.room(task, _say, grading=True).image)) for task in tasks]
    write_jsonl(instances, options.out)
    print(plain(f"{counted(len(tasks), 'instance')} written to {options.out}, for `swebench eval {options.out} …`"))
    return 0


def _clean(options: argparse.Namespace) -> int:
    import shutil

    from aem_envs.swebench.sandbox.api import SandboxMissingError

    removed = []
    try:
        from aem_envs.swebench.images import clean_images

        removed = clean_images(_say)
    except (SandboxMissingError, ImportError) as error:
        print(plain(f"no container images removed: {error}"), file=sys.stderr)
    cache = swebench_cache()
    shutil.rmtree(cache, ignore_errors=True)
    print(plain(f"{counted(len(removed), 'image')} and {cache} removed"))
    return 0


def _download(options: argparse.Namespace) -> int:
    from aem_envs.cli_progress import byte_bars
    from envs_data.swebench.download import download

    to = (options.to or Path(SWEBENCH_HOME)).expanduser()  # not $SWEBENCH_DATA: that is one set of these, or a file
    with byte_bars() as progress:
        fetched = download(to / options.dataset, options.dataset, progress=progress, force=options.force)
    print(plain(f"{', '.join(fetched) or 'nothing new'}; set SWEBENCH_DATA={to / options.dataset}"))
    return 0


def _say(message: str) -> None:
    print(plain(message), file=sys.stderr)


COMMANDS = {
    "ls": _ls,
    "stats": _stats,
    "prepare": _prepare,
    "validate": _validate,
    "generate": _generate,
    "rows": _rows,
    "clean": _clean,
    "download": _download,
}
