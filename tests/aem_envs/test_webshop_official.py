"""`source="official"`: files in the official format, read, split, priced and played as such."""

import json
import shutil

import gymnasium as gym
import pytest

import aem_envs
from aem_envs.core import BadOptionError
from envs_data.errors import DataError, ProductFileError
from envs_data.webshop.export import write_official
from envs_data.webshop.generator import EmbeddedCatalogue


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Generated products in the official files: enough goals for all three splits."""
    folder = tmp_path_factory.mktemp("official")
    write_official(EmbeddedCatalogue(1200).entries(), folder, size="_1000")
    return folder


def make(folder, **settings):
    return aem_envs.make_env("aem/WebShop-v0", source="official", data=str(folder), tagger="lexicon", **settings)


def test_the_splits_are_the_original_s(written):
    env = make(written)
    assert env.splits == ("train", "dev", "test") and env.split == "train"
    assert env.task_ids("test")[::499] == ["human/00000", "human/00499"]
    assert env.task_ids("dev")[::999] == ["human/00500", "human/01499"]
    assert env.task_ids("train")[0] == "human/01500" and len(env.task_ids("train")) == 2400 - 1500


def test_info_names_catalogue_size_and_tagger(written):
    info = make(written).reset(seed=0)[1]
    assert info["engine"].startswith("official-items_shuffle_1000/1200-products/nouns-lexicon-")
    assert len(info["data_hash"]) == 16 and info["task_id"].startswith("human/")
    fewer = make(written, products=300).reset(seed=0)[1]
    assert "/300-products/" in fewer["engine"] and fewer["data_hash"] != info["data_hash"]


def test_the_expert_wins_there_too(written):
    env = make(written)
    won = 0
    for task_id in env.task_ids("test", 40):
        observation, info = env.reset(options={"task_id": task_id})
        expert = aem_envs.make_expert("aem/WebShop-v0", "expert")
        expert.reset(env, observation, info)
        over = False
        while not over:
            observation, _, terminated, truncated, info = env.step(expert.act(observation, info))
            over = terminated or truncated
        won += info["won"]
    assert won >= 38


def test_the_contract_holds_on_official_files(written):
    aem_envs.check_text_env(gym.make("aem/WebShop-v0", source="official", data=str(written), tagger="lexicon"))


def test_files_are_found_by_variable(written, monkeypatch):
    monkeypatch.setenv("WEBSHOP_DATA", str(written))
    env = aem_envs.make_env("aem/WebShop-v0", source="official", tagger="lexicon")
    assert env.store.products == 1200
    monkeypatch.delenv("WEBSHOP_DATA")
    with pytest.raises(DataError, match="WEBSHOP_DATA"):
        aem_envs.make_env("aem/WebShop-v0", source="official")


def test_changed_files_are_another_shop(written, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(written, folder)
    before = make(folder)
    assert before.store.data_hash == make(written).store.data_hash, "the place of the files does not matter"
    products = json.loads((folder / "items_shuffle_1000.json").read_text())
    products[0]["name"] = "Something else entirely"
    (folder / "items_shuffle_1000.json").write_text(json.dumps(products))
    after = make(folder)
    assert after.store.data_hash != before.store.data_hash
    assert after.store.product(after.store.find(products[0]["asin"])).title == "Something else entirely"


def test_the_shape_examples_can_be_shopped(official_webshop):
    env = make(official_webshop)
    assert env.splits == ("test",) and env.task_ids("test") == ["human/00000"]
    observation, _ = env.reset(seed=0)
    assert "i need a sulfate free shampoo in a travel size" in observation
    env.step("search[shampoo]")
    env.step("click[b000exmpl3]")
    observation, *_ = env.step("click[travel | mini]")
    assert "Price: $12.0 to $34.0" in observation
    assert env.step("click[buy now]")[1] == 1.0
    synthetic = make(official_webshop, goals="synthetic")
    assert (
        synthetic.store.n_goals == 2
        and "size: 13.5 fl oz" in synthetic.store.goal(0).instruction + synthetic.store.goal(1).instruction
    )


def test_without_human_instructions_it_says_so(official_webshop):
    (official_webshop / "items_human_ins.json").unlink()
    with pytest.raises(BadOptionError, match=r"items_human_ins\.json"):
        make(official_webshop)
    assert make(official_webshop, goals="synthetic").store.n_goals == 2


def test_damaged_files_are_named_and_leave_no_store(official_webshop, tmp_path):
    products = official_webshop / "items_shuffle.json"
    products.write_text(products.read_text()[:-200])
    with pytest.raises(ProductFileError, match=r"items_shuffle\.json"):
        make(official_webshop, cache=str(tmp_path / "cache"))
    left = [path for path in (tmp_path / "cache" / "webshop").iterdir() if path.is_dir()]
    assert not left
