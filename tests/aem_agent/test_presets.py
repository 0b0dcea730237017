"""Presets are ordinary transformers folders, equal for equal seeds; tokenizers read and write what parsers expect."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from aem_agent.model.interface import TokenizerMissingError, load_model, load_tokenizer
from aem_agent.model.presets import PRESETS, UnknownPresetError, make_preset, preset
from aem_agent.model.tokenizers import TAGS, Tokenizer, TokenizerKind, train_tokenizer
from aem_agent.model.vocabulary import alfworld_words

GAME = (
    "You are in the middle of a room. Looking quickly around you, you see a cabinet 2, a cabinet 1, and a sidetable "
    "10.\nYour task is to: put a clean mug in/on the desk.\n> go to cabinet 2\nYou arrive at cabinet 2. The cabinet 2 "
    "is closed."
)
ACTIONS = ["go to cabinet 2", "take mug 1 from sidetable 10", "put mug 1 in/on desk 1", "inventory", "look"]
TEXTS = [GAME, *ACTIONS, *alfworld_words(10)]
KINDS: tuple[TokenizerKind, ...] = ("word", "word-number", "byte-bpe")
TRAINED = {kind: train_tokenizer(kind, TEXTS, 4096) for kind in KINDS}


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_is_a_standard_folder(tmp_path: Path, name: str) -> None:
    start = time.perf_counter()
    make_preset(name, tmp_path, 0, TEXTS)
    assert time.perf_counter() - start < 10
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True).eval()
    ours, decoder = load_tokenizer(tmp_path), load_model(tmp_path)
    ids = tokenizer(GAME, add_special_tokens=False)["input_ids"]
    assert ours.encode(GAME) == ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == ours.decode(ids)
    assert tokenizer.eos_token_id == ours.eos_token_id == model.config.eos_token_id
    assert tokenizer.pad_token_id == model.config.pad_token_id
    assert len(tokenizer) == model.config.vocab_size == decoder.vocab_size
    with torch.no_grad():
        tokens = torch.tensor(ids)
        found = decoder.head(decoder.hidden(tokens, torch.tensor([0, len(ids)])))
        torch.testing.assert_close(found, model(tokens[None]).logits[0], rtol=0, atol=1e-5)
    out = model.generate(tokens[None], max_new_tokens=3, do_sample=False)
    assert out.shape[1] > len(ids)


def test_tiny_has_about_165k_parameters(tmp_path: Path) -> None:
    make_preset(preset("tiny", vocab_size=263), tmp_path, 0, TEXTS)
    count = sum(p.numel() for p in load_model(tmp_path).parameters())
    assert 150_000 < count < 180_000


def test_same_seed_same_bytes_other_seed_other_weights(tmp_path: Path) -> None:
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_preset("tiny", tmp_path / folder, seed, iter(TEXTS))
    for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    weights = [(tmp_path / x / "model.safetensors").read_bytes() for x in "ac"]
    assert weights[0] != weights[1]


def test_unknown_presets_and_fields() -> None:
    with pytest.raises(UnknownPresetError, match="small, tiny"):
        preset("huge")
    with pytest.raises(TypeError):
        preset("tiny", layer=3)
    assert preset("tiny", layers=5).layers == 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("action", ACTIONS)
def test_actions_come_back_as_they_were(kind: TokenizerKind, action: str) -> None:
    t = TRAINED[kind]
    assert t.decode(t.encode(action)) == action
    assert t.decode([*t.encode(f"<think>look</think><action>{action}</action>"), t.eos_token_id, t.pad_token_id]) == (
        f"<think>look</think><action>{action}</action>"
    )
    assert t.decode(t.encode(f"{action}\n")) == f"{action}\n"


def test_texts_come_back(tmp_path: Path) -> None:
    assert TRAINED["byte-bpe"].decode(TRAINED["byte-bpe"].encode(GAME + " é ☃")) == GAME + " é ☃"
    for kind in ("word", "word-number"):
        assert TRAINED[kind].decode(TRAINED[kind].encode(GAME)) == GAME.lower()


def test_numbers_merged_or_apart() -> None:
    merged, apart = TRAINED["word"], TRAINED["word-number"]
    assert len(merged.encode("go to cabinet 2")) == 3 and len(apart.encode("go to cabinet 2")) == 4
    assert merged.encode("You arrive at cabinet 2.")[-2:] == merged.encode("cabinet 2.")
    assert len(merged.encode("cabinet 2.")) == 2
    assert apart.vocab_size < merged.vocab_size / 3


def test_every_name_is_known() -> None:
    for kind in ("word", "word-number"):
        unknown = TRAINED[kind].inner.token_to_id("<unk>")
        assert all(unknown not in TRAINED[kind].encode(text) for text in alfworld_words(10))
    task = "find two plunger and put them in cart"  # types without a number are words of their own
    known = train_tokenizer("word", alfworld_words(), 10_000)
    assert known.inner.token_to_id("<unk>") not in known.encode(task)
    assert TRAINED["word"].encode("zyzzyva") == [TRAINED["word"].inner.token_to_id("<unk>")]


@pytest.mark.parametrize("kind", KINDS)
def test_tags_are_single_tokens(kind: TokenizerKind) -> None:
    t = TRAINED[kind]
    assert all(len(t.encode(tag)) == 1 for tag in (*TAGS, "<eos>"))


PIECES = st.sampled_from(
    [*TAGS, "<eos>", "<unk>", "<Think>", "cabinet 2", "Desk 1.5", "10", "3.", "in/on", "it's", "<", "\n", "\t"]
)
ASCII = st.text(st.characters(max_codepoint=127), max_size=12)


@pytest.mark.parametrize("kind", ["word", "word-number"])
@given(st.lists(PIECES | ASCII, max_size=8).map(" ".join) | st.lists(PIECES | ASCII, max_size=8).map("".join))
@settings(max_examples=300, deadline=None)
def test_quick_encoding_equals_the_tokenizers(kind: TokenizerKind, text: str) -> None:
    t = TRAINED[kind]
    assert t._words is not None
    assert t._words.encode(text) == t.inner.encode(text, add_special_tokens=False).ids


@given(st.text(max_size=30))
@settings(deadline=None)
def test_any_text_can_be_encoded_and_decoded(text: str) -> None:
    for kind in KINDS:
        try:
            text.encode()
        except UnicodeEncodeError:
            return
        TRAINED[kind].decode(TRAINED[kind].encode(text))
    assert TRAINED["byte-bpe"].decode(TRAINED["byte-bpe"].encode(text)).replace("\ufffd", "") is not None


def test_encoding_is_quick() -> None:
    """Measured against the general encoder in the same run: 20 µs against 110 for 50 words, 0.1 µs when cached."""
    piece = " ".join(GAME.split()[:50])
    fresh = [f"{piece} {i}" for i in range(300)]
    tokenizer = Tokenizer(TRAINED["word"].inner, 1)

    def seconds(encode: Callable[[str], object]) -> float:
        start = time.process_time()
        for text in fresh:
            encode(text)
        return time.process_time() - start

    general = min(seconds(lambda text: tokenizer.inner.encode(text).ids) for _ in range(5))
    first = seconds(tokenizer.encode)
    cached = min(seconds(tokenizer.encode) for _ in range(5))
    assert first < general / 2 and cached < first / 20


def test_a_cache_of_limited_size_stays_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aem_agent.model.tokenizers.CACHE_SIZE", 4)
    t = Tokenizer(TRAINED["word"].inner, 1)
    texts = [f"cabinet {i}" for i in range(1, 11)]
    assert [t.encode(x) for x in texts * 3] == [t.inner.encode(x).ids for x in texts * 3]
    assert len(t._encoded) <= 4


def test_malformed_tokenizers_are_typed(tmp_path: Path) -> None:
    make_preset("tiny", tmp_path, 0, TEXTS)
    whole = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(whole[:100])
    with pytest.raises(TokenizerMissingError, match="cannot read"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text(whole)
    (tmp_path / "tokenizer_config.json").unlink()
    assert load_tokenizer(tmp_path).eos_token_id == 1, "config.json names the end token too"
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"eos_token_id": None}))
    with pytest.raises(TokenizerMissingError, match="end token"):
        load_tokenizer(tmp_path)
