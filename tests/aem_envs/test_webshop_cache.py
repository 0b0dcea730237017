"""Stores on disk: made once, whole or not at all, made again when anything about them is not right."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from small_shop import PRODUCTS, SmallCatalogue, small_shop

import aem_envs
from aem_envs import cache
from aem_envs.cache import CacheError, CacheWarning, cache_root, shared_folder
from aem_envs.core import AemEnvError
from aem_envs.webshop import sources, store
from aem_envs.webshop.search import INDEX_VERSION
from aem_envs.webshop.store import Store, StoreError, build_store, is_sound
from envs_data.webshop.goals import make_goals


def made(folder: Path) -> None:
    (folder / "made").write_text("whole")


def sound(folder: Path) -> bool:
    return (folder / "made").exists() and (folder / "made").read_text() == "whole"


def test_made_once(tmp_path):
    calls = []
    for _ in range(2):
        place = shared_folder(tmp_path / "a" / "store", sound, lambda folder: (calls.append(folder), made(folder))[0])
    assert place == tmp_path / "a" / "store" and len(calls) == 1 and calls[0] != place
    assert [path.name for path in place.parent.iterdir() if "lock" not in path.name] == ["store"]


def test_what_is_not_sound_is_replaced(tmp_path):
    place = tmp_path / "store"
    place.mkdir()
    (place / "made").write_text("half")
    assert sound(shared_folder(place, sound, made))
    assert {path.name for path in tmp_path.iterdir()} == {"store", ".store.lock"}


def test_a_build_that_fails_leaves_what_was_there(tmp_path):
    place = tmp_path / "store"
    place.mkdir()
    (place / "made").write_text("half")

    def fail(folder: Path) -> None:
        (folder / "made").write_text("new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shared_folder(place, sound, fail)
    assert (place / "made").read_text() == "half" and {p.name for p in tmp_path.iterdir()} == {"store", ".store.lock"}


def test_leftovers_of_a_killed_build_are_removed(tmp_path):
    script = (
        "import os, sys, pathlib\n"
        "from aem_envs.cache import shared_folder\n"
        "def build(folder):\n    (folder / 'half').write_text('x'); os.kill(os.getpid(), 9)\n"
        "shared_folder(pathlib.Path(sys.argv[1]), lambda f: False, build)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "store")])
    assert killed.returncode == -9 and len(list(tmp_path.glob(".store.building-*"))) == 1
    shared_folder(tmp_path / "store", sound, made)
    assert not list(tmp_path.glob(".store.building-*"))


def test_others_wait_for_the_one_that_builds(tmp_path):
    script = (
        "import sys, time, pathlib\n"
        "from aem_envs.cache import shared_folder\n"
        "place = pathlib.Path(sys.argv[1])\n"
        "def build(folder):\n    print('built', flush=True); time.sleep(0.5); (folder / 'made').write_text('whole')\n"
        "shared_folder(place, lambda f: (f / 'made').exists(), build)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "store")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=60)[0] for process in running]
    assert sorted(said) == ["", "", "built\n"] and sound(tmp_path / "store")


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch, code):
    real = tempfile.mkdtemp

    def refuse(*args, dir=None, **kwargs):
        if dir is not None:
            raise OSError(code, os.strerror(code))
        return real(*args, **kwargs)

    monkeypatch.setattr(cache.tempfile, "mkdtemp", refuse)
    with pytest.warns(CacheWarning, match="AEM_CACHE"):
        folder = shared_folder(tmp_path / "store", sound, made)
    assert sound(folder) and not (tmp_path / "store").exists()
    shutil.rmtree(folder)


def test_a_full_disk_is_no_read_only_cache(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(cache.tempfile, "mkdtemp", full)
    with pytest.raises(CacheError, match=r"no space.*AEM_CACHE"):
        shared_folder(tmp_path / "store", sound, made)


def test_a_cache_that_is_no_folder_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(CacheError, match=r"file.*AEM_CACHE"):
        shared_folder(tmp_path / "file" / "webshop" / "store", sound, made)
    assert (tmp_path / "file").read_text() == "precious"
    monkeypatch.setenv("AEM_CACHE", "~nobody-is-called-so/cache")
    with pytest.raises(CacheError, match="AEM_CACHE"):
        cache_root()


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("AEM_CACHE", str(tmp_path))
    assert cache_root() == tmp_path and cache_root("/else") == Path("/else")
    monkeypatch.delenv("AEM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_root() == Path("/x/aem-suite")


def test_products_and_goals_come_back_as_they_were(tmp_path):
    found = small_shop(tmp_path / "store").store
    assert found.products == len(PRODUCTS)
    for product in PRODUCTS:
        doc = found.find(product.asin)
        assert doc is not None and found.product(doc) == product
        assert found.nouns(doc) == tuple(product.title.lower().split())
    assert [found.product(doc).asin for doc in range(len(PRODUCTS))] == sorted(p.asin for p in PRODUCTS)
    assert found.find("nowhere") is None and found.find("") is None and found.find("\u00e9" * 20) is None
    wanted = [entry.human[0] for entry in SmallCatalogue().entries()]
    assert [found.goal(n).attributes for n in range(found.n_goals)] == [w.attributes for w in wanted]
    assert found.splits["test"] == range(4)


@pytest.mark.parametrize("kind", ["human", "synthetic"])
def test_goals_are_all_there_in_the_catalogues_order(tmp_path, kind):
    class Turned(SmallCatalogue):
        def arrange(self, goals):
            return SmallCatalogue().arrange(goals[::-1])

    (tmp_path / "store").mkdir()
    build_store(tmp_path / "store", Turned(), kind, lambda title: (), "vocabulary", lambda done: None)
    found, wanted = Store(tmp_path / "store"), make_goals(SmallCatalogue().entries(), kind)[::-1]
    assert [found.goal(number) for number in range(found.n_goals)] == wanted
    assert np.array_equal(found.weights, np.cumsum([goal.weight for goal in wanted]))
    sections = {product.asin: product.category for product in PRODUCTS}
    assert [found.section(number) for number in range(found.n_goals)] == [sections[goal.asin] for goal in wanted]
    assert not list((tmp_path / "store").glob("*.waiting"))


def test_synthetic_goals_have_pairs_and_weights(tmp_path):
    found = small_shop(tmp_path / "store", "synthetic").store
    goal = found.goal(0)
    assert goal.kind == "synthetic" and all(isinstance(option, tuple) for option in goal.options)
    assert len(found.weights) == found.n_goals > len(PRODUCTS)


def ok(folder: Path) -> bool:
    return is_sound(folder, "small", "human", SmallCatalogue.data_hash, "vocabulary")


def test_soundness_is_version_inputs_and_sizes(tmp_path, monkeypatch):
    folder = small_shop(tmp_path / "store").store.folder
    assert ok(folder)
    assert not is_sound(folder, "small", "human", "another", "vocabulary")
    assert not is_sound(folder, "small", "human", SmallCatalogue.data_hash, "another tagger")
    assert not ok(tmp_path / "nowhere")
    monkeypatch.setattr(store, "VERSION", store.VERSION + 1)
    assert not ok(folder)


@pytest.mark.parametrize("name", ["products.bin", "asins.npy", "goals.bin", "weights.npy", "in_order.npy"])
def test_a_file_cut_short_is_noticed(tmp_path, name):
    folder = small_shop(tmp_path / "store").store.folder
    with (folder / name).open("r+b") as file:
        file.truncate((folder / name).stat().st_size - 1)
    assert not ok(folder)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"version": 1}', "[" * 100_000, '{"version":1,"sizes":3}'])
def test_a_damaged_description_is_noticed(tmp_path, content):
    folder = small_shop(tmp_path / "store").store.folder
    (folder / "meta.json").write_text(content)
    assert not ok(folder)


def test_a_damaged_store_is_built_again(tmp_path):
    env = aem_envs.make_env("aem/WebShop-v0", products=20, cache=str(tmp_path))
    folder = env.store.folder
    before = env.reset(seed=1)[0]
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "version": 0}))
    sources._shop.cache_clear()
    again = aem_envs.make_env("aem/WebShop-v0", products=20, cache=str(tmp_path))
    assert json.loads((again.store.folder / "meta.json").read_text()) == meta
    assert again.reset(seed=1)[0] == before == env.reset(seed=1)[0], "who had it open goes on with what was mapped"


def test_an_index_of_another_version_is_built_again(tmp_path):
    env = aem_envs.make_env("aem/WebShop-v0", products=20, cache=str(tmp_path))
    header = env.store.folder / "index" / "index.json"
    before = header.read_text()
    header.write_text(before.replace(f'"{INDEX_VERSION}"', f'"{"0" * len(INDEX_VERSION)}"'))
    assert header.stat().st_size == len(before) and header.read_text() != before
    sources._shop.cache_clear()
    again = aem_envs.make_env("aem/WebShop-v0", products=20, cache=str(tmp_path))
    assert header.read_text() == before and again.reset(seed=1)[0] == env.reset(seed=1)[0]


def test_processes_share_one_store(tmp_path):
    script = (
        "import sys, aem_envs\n"
        "env = aem_envs.make_env('aem/WebShop-v0', products=50, cache=sys.argv[1])\n"
        "print(env.store.folder, env.reset(seed=3)[0])\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.communicate(timeout=60)[0] for process in running}
    assert len(said) == 1
    assert len([path for path in (tmp_path / "webshop").iterdir() if path.is_dir()]) == 1


def test_a_catalogue_without_products_or_goals_is_refused(tmp_path):
    class Empty(SmallCatalogue):
        def entries(self):
            return iter(())

    class Aimless(SmallCatalogue):
        def entries(self):
            return (type(entry)(entry.product) for entry in SmallCatalogue.entries(self))

    for catalogue, word in ((Empty(), "no products"), (Aimless(), "no goals")):
        folder = tmp_path / word
        folder.mkdir()
        with pytest.raises(StoreError, match=word):
            build_store(folder, catalogue, "human", lambda title: (), "vocabulary", lambda done: None)


def test_errors_of_stores_are_known_ones():
    assert issubclass(StoreError, AemEnvError)
