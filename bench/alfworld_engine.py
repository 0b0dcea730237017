"""Speed of the native ALFWorld engine, against the real one in the same run.

    python bench/alfworld_engine.py [--out FILE] [--real-steps N] [--data FOLDER]

Prints one table and writes the same as JSON. Games: the official sample where it is found (`--data`, else
`$ALFWORLD_DATA`, else the archive under `$AEM_TEST_DATA`), else embedded ones of official size.
"""

import argparse
import gc
import json
import platform
import random
import statistics
import sys
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from official_games import REPOSITORY, official_games

if TYPE_CHECKING:
    from aem_envs.alfworld.engine import Game
    from aem_envs.alfworld.world import World


class Row(NamedTuple):
    """One measured figure."""

    what: str
    value: float
    unit: str
    wanted: str
    met: bool


def game_texts(data: Path | None) -> tuple[str, list[tuple[str, str]]]:
    """(where from, [(name, text of game.tw-pddl)]); empty without official files."""
    from envs_data.alfworld.tw_pddl import parse_game
    from envs_data.errors import GameFileError

    with official_games(data) as folder:
        paths = sorted(folder.rglob("game.tw-pddl"))[:200] if folder else []
        texts = [(str(path.relative_to(folder)), path.read_text()) for path in paths] if folder else []
    playable = []
    for name, text in texts:
        try:
            parse_game(text, name=name)
        except GameFileError:
            continue
        playable.append((name, text))
    return ("official sample" if playable else "embedded, official size"), playable


def timed(samples: list[float], start: float) -> None:
    samples.append((time.perf_counter() - start) * 1e6)


def walk_times(worlds: list["World"], steps: int, *, teleport: bool) -> list[float]:
    """Microseconds of step + admissible list. `teleport`: between the timed steps the state is made one never seen
    before (other contents, doors and places), so that nothing a cache held could help."""
    from aem_envs.alfworld.engine import Game

    samples: list[float] = []
    for number, world in enumerate(worlds):
        rng = random.Random(number)
        game = Game(world)
        commands = game.admissible()
        for _ in range(steps):
            if teleport:
                shuffle(game, rng)
                commands = game.admissible()
            command = rng.choice(commands)
            start = time.perf_counter()
            game.step(command)
            commands = game.admissible()
            timed(samples, start)
    return samples


def shuffle(game: "Game", rng: random.Random) -> None:
    """Put the agent, three objects and all doors elsewhere."""
    from aem_envs.alfworld.world import OPENABLE

    world = game.world
    game.location = rng.choice([spot for spot in world.receptacle_locations if spot >= 0])
    for number, power in enumerate(world.powers):
        if power & OPENABLE:
            game.closed[number] = rng.random() < 0.5
    for _ in range(3):
        source, target = rng.sample(range(len(game.contents)), 2)
        if game.contents[source]:
            item = rng.choice(game.contents[source])
            game.contents[source] = tuple(other for other in game.contents[source] if other != item)
            game.contents[target] = tuple(sorted({*game.contents[target], item}))


def bytes_per_episode(world: "World", steps: int = 50) -> float:
    """Memory of one more episode of a loaded game, after a walk."""
    from aem_envs.alfworld.engine import Game

    warm = Game(world)
    for location in range(len(world.location_ids)):
        warm.location = location
        warm.admissible()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    games = [Game(world) for _ in range(100)]
    for number, game in enumerate(games):
        rng = random.Random(number)
        for _ in range(steps):
            game.step(rng.choice(game.admissible()))
    gc.collect()
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return used / len(games)


def real_times(name: str, text: str, steps: int) -> tuple[float, float, list[float]]:
    """Seconds to load and to reset, microseconds per step, of the real engine."""
    from aem_envs.alfworld.real import RealGame, RealWorker

    worker = RealWorker()
    try:
        RealGame(text, name=name, worker=worker).close()  # starts the process and imports
        start = time.perf_counter()
        game = RealGame(text, name=name, worker=worker)
        loaded = time.perf_counter()
        game.reset()
        reset = time.perf_counter()
        rng = random.Random(0)
        samples: list[float] = []
        for _ in range(steps):
            command = rng.choice(game.admissible())
            start_step = time.perf_counter()
            game.step(command)
            timed(samples, start_step)
    finally:
        worker.close()
    return loaded - start, reset - loaded, samples


def measure(data: Path | None, real_steps: int) -> tuple[str, list[Row]]:
    """All rows."""
    from aem_envs.alfworld.engine import Game
    from aem_envs.alfworld.world import World
    from envs_data.alfworld.generator import generate
    from envs_data.alfworld.tw_pddl import parse_game

    source, texts = game_texts(data)
    parses: list[float] = []
    compiles: list[float] = []
    problems = []
    for name, text in texts:
        times: list[float] = []
        for _ in range(7):
            start = time.perf_counter()
            problem = parse_game(text, name=name)
            timed(times, start)
        parses.append(min(times))
        problems.append(problem)
    problems = problems or [generate("train", index, size="official") for index in range(36)]
    worlds: list[World] = []
    resets: list[float] = []
    for problem in problems:
        times = []
        for _ in range(7):
            start = time.perf_counter()
            world = World.compile(problem)
            timed(times, start)
        compiles.append(min(times))
        worlds.append(world)
        game = Game(world)
        for _ in range(20):
            start = time.perf_counter()
            game.reset()
            timed(resets, start)
    new = statistics.median(walk_times(worlds, 300, teleport=True))
    usual = statistics.median(walk_times(worlds, 300, teleport=False))
    memory = max(bytes_per_episode(world) for world in worlds[:6]) / 1000
    rows = [
        Row("step + admissible, every state new (median)", new, "µs", "≤ 25", new <= 25),
        Row("step + admissible, usual walk (median)", usual, "µs", "≤ 12", usual <= 12),
        Row("reset (median)", statistics.median(resets), "µs", "≤ 15", statistics.median(resets) <= 15),
        Row("compile a world, best of 7 (median game)", statistics.median(compiles) / 1e3, "ms", "", True),
        Row("memory per extra episode (largest)", memory, "kB", "≤ 20", memory <= 20),
    ]
    if parses:
        middle, most = statistics.median(parses) / 1e3, max(parses) / 1e3
        rows.append(Row("parse a file with JSON, best of 7 (median file)", middle, "ms", "≤ 2", middle <= 2))
        rows.append(Row("parse a file with JSON, best of 7 (slowest file)", most, "ms", "≤ 2", most <= 2))
    if texts and real_steps:
        load, reset, steps = real_times(*texts[len(texts) // 2], real_steps)
        real = statistics.median(steps)
        rows.append(Row("real engine: load", load, "s", "", True))
        rows.append(Row("real engine: reset", reset, "s", "", True))
        rows.append(Row("real engine: step (median)", real / 1e3, "ms", "", True))
        rows.append(Row("native step is faster, every state new", real / new, "×", "≥ 2000", real / new >= 2000))
        rows.append(Row("native step is faster, usual walk", real / usual, "×", "≥ 2000", real / usual >= 2000))
    return source, rows


def main() -> int:
    """Print the table; exit status 1 where a wanted figure was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "bench" / "results" / "alfworld_engine.json")
    parser.add_argument("--data", type=Path, help="folder with game.tw-pddl files")
    parser.add_argument("--real-steps", type=int, default=40, help="steps of the real engine; 0 leaves it out")
    arguments = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    source, rows = measure(arguments.data, arguments.real_steps)
    machine = f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}"
    print(f"ALFWorld engine; games: {source}; {machine}")
    for row in rows:
        mark = "" if not row.wanted else "ok" if row.met else "MISSED"
        print(f"  {row.what:<48} {row.value:>10.2f} {row.unit:<3} {row.wanted:>7} {mark}")
    report = {"games": source, "machine": machine, "rows": [row._asdict() for row in rows]}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
