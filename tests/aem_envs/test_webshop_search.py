"""Index and ranking of WebShop's search."""

import errno
import json
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest

from aem_envs.core import AemEnvError
from aem_envs.webshop.search import BadIndexError, IndexBuilder, SearchIndex, builder, files, ranking
from aem_envs.webshop.search import index as index_module
from aem_envs.webshop.search.analyser import analyse
from aem_envs.webshop.search.scoring import LENGTHS, length_bytes, weights


def test_lengths_are_kept_in_a_byte_rounded_down() -> None:
    assert list(LENGTHS[:41]) == [*range(41)]
    assert list(LENGTHS[41:52]) == [42, 44, 46, 48, 50, 52, 54, 56, 60, 64, 68]
    assert list(LENGTHS[length_bytes(np.array([0, 40, 41, 43, 59, 67]))]) == [0, 40, 40, 42, 56, 64]
    assert (np.diff(LENGTHS) > 0).all()


def build(folder: Path, texts: list[str], order: np.ndarray | None = None) -> SearchIndex:
    made = IndexBuilder(folder)
    for text in texts:
        made.add(text)
    made.finish(order)
    return SearchIndex.open(folder)


def reference(texts: list[str], query: str, k: int) -> list[int]:
    """The formula, document by document, in single precision, summed exactly."""
    f = np.float32
    documents = [analyse(text) for text in texts]
    filled = sum(map(bool, documents))
    average = f(sum(map(len, documents)) / filled)
    scores = []
    for document in documents:
        length = f(LENGTHS[length_bytes(np.array(len(document)))])
        norm = f(1) / (f(0.9) * ((f(1) - f(0.4)) + f(0.4) * length / average))
        score = 0.0
        asked = analyse(query)
        for term in dict.fromkeys(asked):
            df = sum(term in other for other in documents)
            weight = f(asked.count(term)) * f(np.log(1 + (filled - df + 0.5) / (df + 0.5)))
            count = document.count(term)
            score += float(weight - weight / (f(1) + f(count) * norm)) if count else 0.0
        scores.append(f(score))
    ranked = sorted(range(len(texts)), key=lambda number: (-scores[number], number))
    return [number for number in ranked[:k] if scores[number] > 0]


def corpus(size: int, seed: int = 0) -> list[str]:
    """Documents of few different words, so that many have the same score; some twice, some empty."""
    rng = random.Random(seed)
    names = [f"w{number}" for number in range(40)]
    chances = [1 / (rank + 1) for rank in range(40)]
    texts = [" ".join(rng.choices(names, chances, k=rng.randint(0, 30))) for _ in range(size)]
    return [rng.choice(texts) if rng.random() < 0.3 else text for text in texts]


QUERIES = [
    "w0",
    "w39",
    "w1 w2",
    "w0 w0 w0 w5",
    "w0 w1 w2 w3 w4 w5 w6 w30 w35 w36",
    "w38 w38 w0 w0 w1 w1 w1 w2",
    "w7 no",
]


@pytest.mark.parametrize("lazily", [False, True])
@pytest.mark.parametrize("k", [1, 5, 50, 1000])
def test_ranks_are_those_of_the_formula(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lazily: bool, k: int) -> None:
    """`lazily`: common words are looked up only for documents that can still get among the best."""
    finished = []
    if lazily:
        finish = ranking._finished
        monkeypatch.setattr(ranking, "FEW_POSTINGS", 0)
        monkeypatch.setattr(ranking, "LOOK_UP", 0)
        monkeypatch.setattr(ranking, "_finished", lambda *given: finished.append(given) or finish(*given))
    texts = corpus(300)
    found = build(tmp_path, texts)
    for query in QUERIES:
        assert found.top(query, k) == reference(texts, query, k)
    assert bool(finished) == (lazily and k <= 50)


def test_a_word_three_times_in_a_query_is_rounded_anew(tmp_path: Path) -> None:
    found = build(tmp_path, corpus(300))
    (once,), (thrice,) = found._found(["w0"]), found._found(["w0"] * 3)
    weight = np.float32(3) * weights(np.array([len(once.docs)]), found._filled)[0]
    lengths, counts = found._arrays["lengths"][once.docs], found._arrays["counts"][once.part]
    expected = [weight - weight / (np.float32(1) + np.float32(count) * found._inverse[length]) for count, length in
                zip(counts, lengths)]  # fmt: skip
    assert thrice.impacts(ranking.ALL).tolist() == expected
    assert thrice.impacts(np.array([3, 1])).tolist() == [expected[3], expected[1]]
    assert (np.float32(3) * once.impacts(ranking.ALL) != expected).any()
    assert max(expected) <= thrice.bound


def test_documents_are_numbered_by_the_order_given(tmp_path: Path) -> None:
    found = build(tmp_path, ["red shoes", "blue shoe", "", "a red hat", "the"], np.array([4, 3, 2, 1, 0]))
    assert found.top("Shoe") == [3, 4]
    assert found.top("red shoes") == [4, 1, 3]
    assert (found.documents, found.terms) == (5, 4)
    with pytest.raises(ValueError, match="order must hold"):
        build(tmp_path / "twice", ["a b", "b c"], np.array([0, 0]))


def test_equal_scores_come_in_ascending_order_however_many(tmp_path: Path) -> None:
    found = build(tmp_path, ["green tea"] * 30_000 + ["tea"])
    assert found.top("green tea", 50) == [*range(50)]
    assert found.top("tea", 3) == [30_000, 0, 1]


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve space")
def test_a_full_disk_is_an_error_and_not_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, start: int, length: int) -> None:
        assert (start, length) == (0, os.fstat(file).st_size)
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="no space"):
        build(tmp_path, corpus(50))


def test_runs_and_blocks_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = corpus(200)
    order = np.random.default_rng(0).permutation(200)
    build(tmp_path / "one", texts, order)
    monkeypatch.setattr(builder, "RUN_WORDS", 100)
    monkeypatch.setattr(builder, "BLOCK_POSTINGS", 60)
    monkeypatch.setattr(builder._Terms, "LIMIT", 7)
    build(tmp_path / "many", texts, order)
    names = {path.name for path in (tmp_path / "many").iterdir()}
    assert names == {f"{name}.npy" for name in files.ARRAYS} | {files.HEADER}
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes(), name


@pytest.mark.parametrize(
    "query",
    [
        "",
        " ",
        "the and of",
        "\ud800",
        "\x00\x07",
        "unheard",
        "'s 's",
        "___",
        "x" * 10_000,
        "\U0010ffff" * 10_000,
        "(a OR b)*",
    ],
)
def test_queries_without_usable_words_find_nothing(tmp_path: Path, query: str) -> None:
    assert build(tmp_path, ["red shoes", "blue hat"]).top(query) == []


def test_odd_queries_and_documents(tmp_path: Path) -> None:
    found = build(tmp_path, ["red \ud800 shoes \x00", "", "x" * 10_000 + " hat", "\U0001f381" * 10_000])
    assert found.top("\ud800red\udfff" + " junk" * 4_000) == [0]
    assert found.top("red " * 3_000) == [0]
    assert found.top("x" * 255) == [2]
    assert found.top("\U0001f381") == [3]
    assert found.top("hat", 0) == []
    assert build(tmp_path / "empty", []).top("hat") == []
    assert build(tmp_path / "stops", ["the", ""]).top("the hat") == []


def test_words_kept_at_hand_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "MAX_CACHED_WORDS", 10)
    texts = corpus(50)
    found = build(tmp_path, texts)
    for number in range(100):
        found.top(f"w{number} v{number} " + "y" * number)
        assert max(len(found._words), len(found._postings)) < 10 + 3
    assert found.top("w1 w2", 50) == reference(texts, "w1 w2", 50)


def test_a_copy_maps_the_same_files(tmp_path: Path) -> None:
    found = build(tmp_path, corpus(50))
    data = pickle.dumps(found)
    assert len(data) < 1_000
    assert pickle.loads(data).top("w1") == found.top("w1")


def test_a_read_only_folder_is_enough(tmp_path: Path) -> None:
    found = build(tmp_path, corpus(50))
    for path in [*tmp_path.iterdir(), tmp_path]:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        assert SearchIndex.open(tmp_path).top("w1") == found.top("w1")
    finally:
        tmp_path.chmod(0o755)
    assert not any(array.flags.writeable for array in found._arrays.values())


def broken_header(**changed: object) -> object:
    def break_it(folder: Path) -> None:
        header = json.loads((folder / files.HEADER).read_text("utf-8"))
        (folder / files.HEADER).write_text(json.dumps(header | changed), "utf-8")

    return break_it


def broken_file(name: str, data: bytes | None) -> object:
    def break_it(folder: Path) -> None:
        if data is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(data)

    return break_it


def cut_off(name: str) -> object:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-3])


@pytest.mark.parametrize(
    "damage",
    [
        broken_header(version="0"),
        broken_header(documents=51),
        broken_header(terms=-1),
        broken_header(postings="many"),
        broken_header(average=float("nan")),
        broken_header(filled=10**9),
        broken_header(postings=None),
        broken_file("index.json", None),
        broken_file("index.json", b"[]"),
        broken_file("index.json", b"{"),
        broken_file("index.json", b"\xff"),
        *[broken_file(f"{name}.npy", None) for name in files.ARRAYS],
        *[broken_file(f"{name}.npy", b"") for name in files.ARRAYS],
        *[broken_file(f"{name}.npy", b"PK\x03\x04" + bytes(90)) for name in files.ARRAYS],
        *[cut_off(f"{name}.npy") for name in files.ARRAYS],
    ],
)
def test_a_damaged_index_is_not_opened(tmp_path: Path, damage) -> None:
    build(tmp_path, corpus(50))
    damage(tmp_path)
    with pytest.raises(BadIndexError, match="build it again"):
        SearchIndex.open(tmp_path)
    assert issubclass(BadIndexError, AemEnvError)


@pytest.mark.parametrize(
    ("name", "value"),
    [("docs", -1), ("docs", 10**6), ("starts", -5), ("starts", 10**12), ("sizes", 0), ("sizes", -1), ("sizes", 10**6),
     ("bounds", 99.0), ("impacts", np.nan), ("impacts", np.inf), ("impacts", -1.0)],
)  # fmt: skip
def test_damaged_postings_are_not_used(tmp_path: Path, name: str, value: float) -> None:
    build(tmp_path, corpus(50))
    files.verify(tmp_path)
    path = tmp_path / f"{name}.npy"
    array = np.load(path)
    array[:] = value
    np.save(path, array)
    found = SearchIndex.open(tmp_path)
    with pytest.raises(BadIndexError, match="damaged"):
        found.top("w0")
    with pytest.raises(BadIndexError, match="damaged"):
        files.verify(tmp_path)
