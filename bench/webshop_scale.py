"""What the web shop costs as the catalogue grows: build, disk, search, memory.

    python bench/webshop_scale.py [--products 1000 10000 100000 1000000] [--queries 300] [--out FILE]

Each size in fresh processes with a cache of its own, which is removed afterwards (a million products need some 4 GB of
disk and ten minutes). `make` is generating the products, `build` all the rest: search index, store, goals. Queries are
full instructions, of other tasks after a warm-up of 100. What a process adds is measured in the second of two that both
made 200 searches and opened 200 item pages, against the second of two that only imported aem_envs: proportional memory
(shared pages divided among those that map them) and private memory. Asked at 100,000 products: build ≤ 30 s, query ≤
2.5 ms, ≤ 15 MB for a second process.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

SIZES = (1000, 10_000, 100_000, 1_000_000)
ASKED_AT, ASKED = 100_000, {"build_s": 30.0, "query_ms": 2.5, "second_private_mb": 15.0}
WARM_UP = 100
VISITS = 200
"""Searches and item pages of the second process."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("bench/results/webshop_scale.json"))
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)  # of a process of its own
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part](options.products[0], options.queries)))
        return
    rows = []
    print(f"{'products':>9} " + " ".join(f"{name:>{width}}" for name, _, width in COLUMNS), flush=True)
    for products in options.products:
        rows.append(measure(products, options.queries))
        print(
            f"{products:9,} " + " ".join(f"{rows[-1][key]:{w},.{_digits(key)}f}" for _, key, w in COLUMNS), flush=True
        )
    for before, after in pairwise(rows):
        factors = " ".join(f"{_factor(before[key], after[key]):>{width}}" for _, key, width in COLUMNS)
        print(f"{'x' + format(after['products'] / before['products'], '.3g'):>9} {factors}")
    for row in rows:
        if row["products"] == ASKED_AT:
            print("asked at 100,000: " + ", ".join(f"{key} {row[key]:.2f} of {most}" for key, most in ASKED.items()))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")


COLUMNS = (
    ("make s", "make_s", 7),
    ("build s", "build_s", 8),
    ("build CPU", "build_cpu_s", 9),
    ("peak MB", "peak_mb", 8),
    ("index MB", "index_mb", 8),
    ("store MB", "store_mb", 8),
    ("query ms", "query_ms", 8),
    ("95 % ms", "query_95_ms", 8),
    ("CPU ms", "query_cpu_ms", 7),
    ("PSS +MB", "second_pss_mb", 8),
    ("priv. +MB", "second_private_mb", 9),
)
"""Heading, key of a row, width."""


def _digits(key: str) -> int:
    return 2 if key.startswith("query") else 1


def _factor(before: float, after: float) -> str:
    return f"x{after / before:.1f}" if before > 0 else "-"


def measure(products: int, queries: int) -> dict[str, Any]:
    """The row of a size."""
    with tempfile.TemporaryDirectory() as cache:
        parts = [_fresh(part, products, queries, cache) for part in ("make", "build", "search", "bare", "second")]
        store = next((Path(cache) / "webshop").glob("embedded-*"))
        sizes = {file: file.stat().st_size / 1e6 for file in store.rglob("*") if file.is_file()}
    made, built, searched, bare, second = parts
    return {
        "products": products,
        **made,
        **searched,
        "peak_mb": built["peak_mb"],
        "build_s": built["all_s"] - made["make_s"],
        "build_cpu_s": built["all_cpu_s"] - made["make_cpu_s"],
        "index_mb": sum(size for file, size in sizes.items() if file.parent != store),
        "store_mb": sum(sizes.values()),
        "second_pss_mb": second["pss_mb"] - bare["pss_mb"],
        "second_private_mb": second["private_mb"] - bare["private_mb"],
        "bare_mb": bare["pss_mb"],
    }


def _fresh(part: str, products: int, queries: int, cache: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--part", part, "--products", str(products), "--queries", str(queries)]
    done = subprocess.run(command, env={**os.environ, "AEM_CACHE": cache}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{part} of {products} products failed: {done.stderr.strip()[-500:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def make(products: int, queries: int) -> dict[str, float]:
    """Seconds to generate the products alone."""
    from envs_data.webshop.generator import EmbeddedCatalogue

    start, busy = time.perf_counter(), time.process_time()
    for _ in EmbeddedCatalogue(products).entries():
        pass
    return {"make_s": time.perf_counter() - start, "make_cpu_s": time.process_time() - busy}


def build(products: int, queries: int) -> dict[str, float]:
    """Seconds to the first environment, everything generated and built; the most memory it took."""
    import aem_envs

    start, busy = time.perf_counter(), time.process_time()
    aem_envs.make_env("aem/WebShop-v0", products=products).close()
    seconds, used = time.perf_counter() - start, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"all_s": seconds, "all_cpu_s": used, "peak_mb": peak}


def search(products: int, queries: int) -> dict[str, float]:
    """Milliseconds per query."""
    env = _env(products)
    index = env.store.index
    told = [env.store.goal(number).instruction for number in _spread(env.store.n_goals, WARM_UP + queries)]
    for text in told[:WARM_UP]:
        index.top(text)
    wall, cpu = [], []
    for text in told[WARM_UP:]:
        start, busy = time.perf_counter(), time.process_time()
        index.top(text)
        cpu.append(1e3 * (time.process_time() - busy))
        wall.append(1e3 * (time.perf_counter() - start))
    return {
        "query_ms": statistics.median(wall),
        "query_95_ms": statistics.quantiles(wall, n=20)[-1],
        "query_cpu_ms": statistics.median(cpu),
    }


def bare(products: int, queries: int) -> dict[str, float]:
    """Memory of a process that has imported the suite, beside another one."""
    return _beside("import aem_envs", lambda: __import__("aem_envs"))


def second(products: int, queries: int) -> dict[str, float]:
    """Memory of a process that has shopped for a while, beside another one that did the same."""
    return _beside(f"import webshop_scale; kept = webshop_scale.shop({products})", lambda: shop(products))


def _beside(code: str, act: Callable[[], Any]) -> dict[str, float]:
    """Memory after `act`, while another process that has run `code` is alive."""
    command = [sys.executable, "-c", f"{code}; print(flush=True); input()"]
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(command, env=here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin and other.stdout
        other.stdout.readline()
        kept = act()
        found = _memory()
        del kept
        other.stdin.write("\n")
    return found


def shop(products: int) -> Any:
    """An environment after some visits."""
    env = _env(products)
    for number in _spread(env.store.n_goals, VISITS):
        env.reset(options={"task_id": env._tasks.id(number)})
        *_, info = env.step(f"search[{env.goal.instruction}]")
        links = [action for action in info["admissible_actions"] if action.startswith("click[b0")]
        if links:
            env.step(links[number % len(links)])
    return env


def _env(products: int) -> Any:
    import aem_envs

    return aem_envs.make_env("aem/WebShop-v0", products=products)


def _spread(among: int, count: int) -> list[int]:
    """`count` numbers below `among`, all over it."""
    return [number * 7919 % among for number in range(count)]


def _memory() -> dict[str, float]:
    """Proportional and private megabytes of this process."""
    fields = dict.fromkeys(("Pss", "Private_Clean", "Private_Dirty"), 0.0)
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in fields:
            fields[name] = int(rest.split()[0]) / 1e3
    return {"pss_mb": fields["Pss"], "private_mb": fields["Private_Clean"] + fields["Private_Dirty"]}


PARTS = {"make": make, "build": build, "search": search, "bare": bare, "second": second}


if __name__ == "__main__":
    main()
