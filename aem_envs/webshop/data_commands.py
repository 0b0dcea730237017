"""What the subcommands of `aem-data webshop` do. Each takes the parsed arguments and returns the exit code."""

import argparse
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from aem_envs.sanitize import plain
from aem_envs.webshop.shop import Shop
from aem_suite.data_cli import WEBSHOP_HOME
from envs_data.webshop.product import Entry


def _shop(options: argparse.Namespace) -> Shop:
    from aem_envs.webshop.sources import open_shop

    return open_shop(options.source, options.products, options.goals, options.tagger, options.data, None)


def _ls(options: argparse.Namespace) -> int:
    from aem_envs.cli_common import CliError
    from aem_envs.webshop.tasks import Tasks

    store = _shop(options).store
    tasks = Tasks(store, f"{store.products}/{options.goals}" if options.source == "embedded" else options.goals)
    if options.split not in tasks.splits:
        raise CliError(f"no goals in split {options.split!r}; there are: {', '.join(tasks.splits)}")
    rows = []
    for number in tasks.splits[options.split][: options.n]:
        goal = store.goal(number)
        rows.append({"task_id": tasks.id(number), "section": store.section(number), "instruction": goal.instruction})
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            print(plain("  ".join(row.values())))
    return 0


def _stats(options: argparse.Namespace) -> int:
    store = _shop(options).store
    found: dict[str, Any] = {
        "catalogue": store.name,
        "data_hash": store.data_hash,
        "products": store.products,
        "sections": store.sections(),
        "goals": {"kind": store.kind, **{name: len(part) for name, part in store.splits.items()}},
        "nouns by": store.tagger,
        "terms of the search": store.index.terms,
        "store": {"folder": str(store.folder), "megabytes": round(store.bytes / 1e6, 1)},
    }
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    for key, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {part}" for name, part in value.items())
        print(plain(f"{key}: {value}"))
    return 0


def _generate(options: argparse.Namespace) -> int:
    from aem_envs.cli_progress import count_bar
    from envs_data.webshop.export import write_official
    from envs_data.webshop.generator import EmbeddedCatalogue

    catalogue = EmbeddedCatalogue(options.products)
    with count_bar("products", options.products) as progress:
        written = write_official(_told(catalogue.entries(), progress), options.out)
    out = plain(str(options.out))
    print(f"{written:,} products written to {out} in the official format; to shop there, set WEBSHOP_DATA={out}")
    return 0


def _told(entries: Iterable[Entry], progress: Callable[[int], None]) -> Iterator[Entry]:
    for done, entry in enumerate(entries, 1):
        if done % 500 == 0:
            progress(done)
        yield entry
    progress(done)


def _download(options: argparse.Namespace) -> int:
    from aem_envs.cli_progress import byte_bars
    from envs_data.webshop.download import download

    to = (options.to or Path(os.environ.get("WEBSHOP_DATA") or WEBSHOP_HOME)).expanduser()
    with byte_bars() as progress:
        fetched = download(to, size=options.size, progress=progress, force=options.force)
    print(f"{', '.join(fetched) or 'nothing new'}; set WEBSHOP_DATA={plain(str(to))}")
    return 0


COMMANDS = {"ls": _ls, "stats": _stats, "generate": _generate, "download": _download}
