"""WebShop's search: time to build, size, time per query, memory of a further process, and agreement with Lucene.

    python bench/webshop_search.py [--products 1000 100000] [--peers] [--out FILE]

Queries are full instructions of the embedded catalogue, each a new string; nothing of an answer is kept between them.
Times are processor time of one process, per query the best of five (other engines: one). Above 100,000 products the
time to build includes making them up. With $AEM_ANSERINI_JAR (how to get it: head of
tests/aem_envs/test_webshop_lucene.py) real Lucene answers the same queries, and "same" counts equal lists of 50. With
--peers, other engines are asked too, those that are installed (`pip install bm25s tantivy`; SQLite comes with Python);
without the jar they are compared with ours.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LIMITS = {1_000: 80.0, 100_000: 2_500.0}
"""Microseconds per query asked for, by the number of products."""

LUCENE = """
import java.io.*; import java.nio.charset.StandardCharsets; import io.anserini.search.SimpleSearcher;
public class Hits {
  public static void main(String[] a) throws Exception {
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    PrintStream out = new PrintStream(new FileOutputStream(a[1]), false, "UTF-8");
    SimpleSearcher s = new SimpleSearcher(a[0]);
    for (String l; (l = in.readLine()) != null; out.println())
      for (SimpleSearcher.Result r : s.search(l, 50)) out.print(r.docid + " ");
    out.close();
  }
}
"""

SECOND = """
import sys
from pathlib import Path
from aem_envs.webshop.search import SearchIndex
def anonymous():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))
before = anonymous()
index = SearchIndex.open(Path(sys.argv[1]))
for query in sys.stdin.read().split("\\n"):
    index.top(query)
print((anonymous() - before) / 1024)
"""

Hits = list[list[int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", type=int, nargs="+", default=[1_000, 100_000])
    parser.add_argument("--peers", action="store_true", help="also time other engines that are installed")
    parser.add_argument("--out", type=Path, default=Path("bench/results/webshop_search.json"))
    options = parser.parse_args()
    rows = [row for products in options.products for row in measure(products, options.peers)]
    columns = ("engine", "products", "build_s", "mb", "open_ms", "query_us", "p95_us", "second_mb", "same", "top10")
    print(" ".join(f"{name:>10}" for name in columns))
    for row in rows:
        print(" ".join(f"{row.get(name, '') if row.get(name) is not None else '':>10}" for name in columns))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")


def texts_of(products: int) -> Iterator[str]:
    """Documents, in little memory."""
    from aem_envs.webshop.store import document
    from envs_data.webshop.generator import EmbeddedCatalogue

    return (document(entry.product) for entry in EmbeddedCatalogue(products).entries())


def instructions_of(products: int, count: int = 300) -> list[str]:
    """Instructions of human-like goals, lower case, with a price limit."""
    from envs_data.webshop.generator import EmbeddedCatalogue

    entries = EmbeddedCatalogue(min(products, 20_000)).entries()
    texts = [entry.human[0].text for entry in entries if entry.human]
    chosen = random.Random(0).sample(texts, count)
    return [f"{text}, and price lower than {10 * (n % 20 + 1)}.00 dollars".lower() for n, text in enumerate(chosen)]


def measure(products: int, peers: bool) -> list[dict[str, Any]]:
    """Rows of all engines on one catalogue."""
    queries = instructions_of(products)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        row, hits = ours(folder / "ours", products, queries)
        rows = [(row, hits)]
        truth = lucene(folder, products, queries)
        if peers:
            for engine in (bm25s_engine, tantivy_engine, sqlite_engine):
                try:
                    rows.append(timed_engine(engine, products, queries))
                except ImportError as error:
                    print(f"{engine.__name__}: {error}", file=sys.stderr)
    for row, hits in rows:
        if truth is not None or row["engine"] != "ours":
            pairs = list(zip(hits, truth or rows[0][1]))
            row["same"] = f"{sum(a == b for a, b in pairs)}/{len(pairs)}"
            row["top10"] = round(statistics.mean(len({*a[:10]} & {*b[:10]}) / max(1, len(b[:10])) for a, b in pairs), 3)
            row["compared_with"] = "ours" if truth is None else "lucene"
    return [row for row, _ in rows]


def ours(folder: Path, products: int, queries: list[str]) -> tuple[dict[str, Any], Hits]:
    from aem_envs.webshop.search import IndexBuilder, SearchIndex

    texts = list(texts_of(products)) if products <= 100_000 else texts_of(products)
    start = time.process_time()
    builder = IndexBuilder(folder)
    for text in texts:
        builder.add(text)
    builder.finish()
    build = time.process_time() - start
    index = SearchIndex.open(folder)
    opened = min(seconds(lambda: SearchIndex.open(folder)) for _ in range(20))
    hits = [index.top(query) for query in queries]
    each = sorted(min(seconds(lambda: index.top(query)) for _ in range(5)) for query in queries)  # noqa: B023
    second = subprocess.run(
        [sys.executable, "-c", SECOND, str(folder)],
        input="\n".join(queries),
        text=True,
        capture_output=True,
        check=True,
    )
    row = {
        "engine": "ours",
        "products": products,
        "build_s": round(build, 2),
        "build_includes_generation": products > 100_000,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "mb": round(sum(path.stat().st_size for path in folder.iterdir()) / 1e6, 1),
        "open_ms": round(1e3 * opened, 2),
        **times(each, products),
        "second_mb": round(float(second.stdout), 1),
        "words_per_query": round(statistics.mean(len(query.split()) for query in queries), 1),
    }
    return row, hits


def times(each: list[float], products: int) -> dict[str, Any]:
    """Figures of sorted seconds per query."""
    mean = 1e6 * statistics.mean(each)
    return {
        "query_us": round(mean, 1),
        "p95_us": round(1e6 * each[int(0.95 * len(each))], 1),
        "ok": mean <= LIMITS[products] if products in LIMITS else None,
    }


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def lucene(folder: Path, products: int, queries: list[str]) -> Hits | None:
    """What Anserini finds; None without its jar."""
    jar = os.environ.get("AEM_ANSERINI_JAR")
    if not jar or products > 100_000:
        return None
    (folder / "texts").mkdir()
    with (folder / "texts" / "all.jsonl").open("w", encoding="utf-8") as stream:
        for number, text in enumerate(texts_of(products)):
            stream.write(json.dumps({"id": f"{number:09d}", "contents": text}) + "\n")
    settings = f"-collection JsonCollection -input {folder / 'texts'} -index {folder / 'lucene'} -threads 1"
    indexer = ["io.anserini.index.IndexCollection", "-generator", "DefaultLuceneDocumentGenerator"]
    subprocess.run(["java", "-cp", jar, *indexer, *settings.split(" ")], check=True, capture_output=True)
    (folder / "Hits.java").write_text(LUCENE, "utf-8")
    command = ["java", "-cp", jar, str(folder / "Hits.java"), str(folder / "lucene"), str(folder / "hits")]
    subprocess.run(command, input="\n".join(queries) + "\n", encoding="utf-8", check=True, capture_output=True)
    return [[int(hit) for hit in line.split()] for line in (folder / "hits").read_text("utf-8").splitlines()]


Engine = Callable[[list[str]], Callable[[str], list[int]]]
"""Builds an index in memory; returns its search."""


def timed_engine(engine: Engine, products: int, queries: list[str]) -> tuple[dict[str, Any], Hits]:
    texts = list(texts_of(products))
    start = time.process_time()
    search = engine(texts)
    build = time.process_time() - start
    search(queries[0])
    hits, each = [], []
    for query in queries:
        start = time.process_time()
        hits.append(search(query))
        each.append(time.process_time() - start)
    name = engine.__name__.removesuffix("_engine")
    return {"engine": name, "products": products, "build_s": round(build, 2), **times(sorted(each), products)}, hits


def bm25s_engine(texts: list[str]) -> Callable[[str], list[int]]:
    """With our analyser."""
    import bm25s

    from aem_envs.webshop.search.analyser import analyse

    engine = bm25s.BM25(k1=0.9, b=0.4, method="lucene")
    engine.index([analyse(text) for text in texts], show_progress=False)

    def search(query: str) -> list[int]:
        found = engine.retrieve([analyse(query)], k=50, show_progress=False)
        return [int(number) for number, score in zip(found.documents[0], found.scores[0]) if score > 0]

    return search


def tantivy_engine(texts: list[str]) -> Callable[[str], list[int]]:
    """With its own English analyser (k1 = 1.2 and b = 0.75 are fixed)."""
    import tantivy

    schema = tantivy.SchemaBuilder()
    schema.add_text_field("text", tokenizer_name="en_stem")
    schema.add_integer_field("number", stored=True)
    engine = tantivy.Index(schema.build())
    writer = engine.writer(100_000_000, 1)
    for number, text in enumerate(texts):
        writer.add_document(tantivy.Document(text=text, number=number))
    writer.commit()
    writer.wait_merging_threads()
    engine.reload()
    searcher = engine.searcher()

    def search(query: str) -> list[int]:
        words = "".join(letter if letter.isalnum() else " " for letter in query)
        found = searcher.search(engine.parse_query(words, ["text"]), 50).hits
        return [int(searcher.doc(address)["number"][0]) for _, address in found]

    return search


def sqlite_engine(texts: list[str]) -> Callable[[str], list[int]]:
    """FTS5 with its Porter stemmer (k1 = 1.2 and b = 0.75 are fixed)."""
    import sqlite3

    engine = sqlite3.connect(":memory:")
    engine.execute("create virtual table shop using fts5(text, tokenize='porter')")
    engine.executemany("insert into shop(rowid, text) values (?, ?)", enumerate(texts))

    def search(query: str) -> list[int]:
        words = "".join(letter if letter.isalnum() else " " for letter in query).split()
        wanted = " OR ".join(f'"{word}"' for word in words)
        rows = engine.execute("select rowid from shop where shop match ? order by rank, rowid limit 50", (wanted,))
        return [number for (number,) in rows]

    return search


if __name__ == "__main__":
    main()
