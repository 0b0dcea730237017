"""Steps per second of the original WebShop, for the same mix as `webshop_env.py`, which calls this.

    python bench/webshop_original.py [FOLDER] [--python PYTHON] [--products 1000] [--episodes 60]

FOLDER is a checkout of github.com/princeton-nlp/WebShop (default `$WEBSHOP_ORIGINAL`); PYTHON an interpreter with flask
2.1, werkzeug 2.1, beautifulsoup4, thefuzz, numpy, rich and tqdm. It gets the same generated products. What else the
original imports is stood in for, always in its favour: Lucene by fifty products found at no cost, spaCy by splitting at
blanks; gym, torch, selenium and the rest by empty modules. Only `env.step` is timed, so that the clickables of the last
page of an episode are not even looked up.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any

STUBS = "Lucene, spaCy, gym, torch, selenium stubbed"
HOW = "no copy of the original: git clone https://github.com/princeton-nlp/WebShop, set WEBSHOP_ORIGINAL to it"
ACTIONS = 10
"""Of an episode: a search, then clicks; at last a purchase, where the page lets one buy."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--products", type=int, default=1000)
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--within", type=Path, help=argparse.SUPPRESS)  # the other interpreter's part
    options = parser.parse_args()
    if options.within:
        print(json.dumps(inside(options.folder, options.within, options.episodes)))
        return
    found = measure(options.folder, options.python, options.products, options.episodes)
    print(f"{found['steps_per_s']:.0f} steps/s ({found['cpu_steps_per_s']:.0f} by CPU time); {STUBS}" if found else HOW)


def measure(folder: Path | None, python: str, products: int = 1000, episodes: int = 60) -> dict[str, Any] | None:
    """Figures of the copy in `folder`, else of `$WEBSHOP_ORIGINAL`; None where there is none.

    Raises:
        RuntimeError: there is one, but it does not run; says why.
    """
    from envs_data.webshop.export import write_official
    from envs_data.webshop.generator import EmbeddedCatalogue

    place = folder or os.environ.get("WEBSHOP_ORIGINAL")
    if not place or not (Path(place) / "web_agent_site").is_dir():
        return None
    with tempfile.TemporaryDirectory() as data:
        write_official(EmbeddedCatalogue(products).entries(), Path(data))
        command = [python, __file__, str(Path(place).resolve()), "--within", data, "--episodes", str(episodes)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the original at {place} does not run with {python}: {done.stderr.strip()[-300:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def inside(folder: Path, data: Path, episodes: int) -> dict[str, float]:
    """Run the original in this process."""
    asins: list[str] = []
    stand_in(asins)
    sys.path.insert(0, str(folder))
    import web_agent_site.utils as paths  # type: ignore[import-not-found]

    paths.DEFAULT_FILE_PATH = str(data / "items_shuffle.json")
    paths.DEFAULT_ATTR_PATH = str(data / "items_ins_v2.json")
    paths.HUMAN_ATTR_PATH = str(data / "items_human_ins.json")
    from web_agent_site.envs.web_agent_text_env import WebAgentTextEnv  # type: ignore[import-not-found]

    start = time.perf_counter()
    env = WebAgentTextEnv(observation_mode="text", file_path=paths.DEFAULT_FILE_PATH, human_goals=1)
    opened = time.perf_counter() - start
    asins += env.server.product_item_dict
    rng = random.Random(0)
    words = [word for goal in env.server.goals[:200] for word in goal["instruction_text"].split()]
    wall, cpu, searches, resets = [], [], [], []
    for _ in range(episodes):
        start = time.perf_counter()
        env.reset()
        resets.append(time.perf_counter() - start)
        for turn in range(ACTIONS):
            things = env.get_available_actions()["clickables"]
            action = f"click[{pick(things, turn, rng)}]" if turn else f"search[{' '.join(rng.sample(words, 6))}]"
            start, busy = time.perf_counter(), time.process_time()
            _, _, done, _ = env.step(action)
            cpu.append(time.process_time() - busy)
            wall.append(time.perf_counter() - start)
            searches.append(turn == 0)
            if done:
                break
    clicks = [seconds for seconds, search in zip(wall, searches) if not search]
    return {
        "steps_per_s": len(wall) / sum(wall),
        "cpu_steps_per_s": len(cpu) / sum(cpu),
        "clicks_per_s": len(clicks) / sum(clicks),
        "reset_us": 1e6 * statistics.median(resets),
        "open_s": opened,
        "steps": len(wall),
    }


def pick(things: list[str], turn: int, rng: random.Random) -> str:
    """What to click: anything that leads on, and at last "buy now"."""
    if turn == ACTIONS - 1 and "buy now" in things:
        return "buy now"
    return rng.choice([thing for thing in things if thing not in ("back to search", "buy now")])


def stand_in(asins: list[str]) -> None:
    """Modules that the original imports and this measurement does without; searches find any fifty of `asins`."""

    class Hit:
        def __init__(self, asin: str) -> None:
            self.docid = asin

        def raw(self) -> str:
            return json.dumps({"id": self.docid})

    class Searcher:
        def __init__(self, path: str) -> None:
            pass

        def search(self, words: str, k: int) -> list[Hit]:
            start = hash(words) % max(1, len(asins) - k)
            return [Hit(asin) for asin in asins[start : start + k]]

        def doc(self, asin: str) -> Hit:
            return Hit(asin)

    class Token(str):
        pos_ = "NOUN"
        text = property(str)

    class Env:
        pass

    modules: dict[str, dict[str, Any]] = {
        "gym": {"Env": Env},
        "gym.envs": {},
        "gym.envs.registration": {"register": lambda **settings: None},
        "torch": {},
        "cleantext": {},
        "rank_bm25": {"BM25Okapi": None},
        "spacy": {"load": lambda name: lambda title: [Token(word) for word in title.split()]},
        "pyserini": {},
        "pyserini.search": {},
        "pyserini.search.lucene": {"LuceneSearcher": Searcher},
        "web_agent_site.envs.web_agent_site_env": {"WebAgentSiteEnv": None},
    }
    for name, members in modules.items():
        module = types.ModuleType(name)
        module.__dict__.update(members)
        sys.modules[name] = module


if __name__ == "__main__":
    main()
