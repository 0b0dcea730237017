"""Tokenizers: one quick wrapper for every tokenizer.json, and the two kinds that presets train.

Word level: numbers are words, or belong to the name before them ("cabinet 2" is one token); line ends are tokens;
decoding puts spaces back such that commands and tags read as a parser expects them. Byte level: BPE as in GPT-2,
lossless.
"""

import json
import re
from collections.abc import Iterable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import tokenizers as tk
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from aem_agent.model.interface import TokenizerMissingError, read_config

TokenizerKind = Literal["word", "word-number", "byte-bpe"]
"""Numbers merged with their names; numbers as words of their own; byte-level BPE."""

EOS, PAD, UNK = "<eos>", "<pad>", "<unk>"
TAGS = ("<think>", "</think>", "<action>", "</action>")
"""One token each in every preset. Unlike end and padding they stay in decoded text: parsers look for them."""

CACHE_SIZE = 65_536
"""Strings whose encoding is kept; when full, the older half is forgotten."""

_WORD = r"[A-Za-z]+(?:[-/'_][A-Za-z]+)*"
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_SPLITS: dict[TokenizerKind, str] = {
    "word": rf"{_WORD}(?: [0-9]+(?![0-9]|\.[0-9]))?|{_NUMBER}|\n|[^\sA-Za-z0-9]",
    "word-number": rf"{_WORD}|{_NUMBER}|\n|[^\sA-Za-z0-9]",
}


class Tokenizer:
    """A tokenizer.json with an end token; strings seen before are encoded from a cache. Not for several threads."""

    def __init__(self, inner: tk.Tokenizer, eos_token_id: int, pad_token_id: int | None = None) -> None:
        self.inner = inner
        self.eos_token_id = eos_token_id
        self.pad_token_id = eos_token_id if pad_token_id is None else pad_token_id
        self._words = _quick_words(inner)
        self._encoded: dict[str, list[int]] = {}
        self._decoded: dict[tuple[int, ...], str] = {}

    @property
    def vocab_size(self) -> int:
        """Number of ids, added tokens included."""
        return self.inner.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        """Token ids without any token added at start or end. Do not change the returned list: it is the cached one."""
        ids = self._encoded.get(text)
        if ids is None:
            if self._words is not None and text.isascii():
                ids = self._words.encode(text)
            else:
                ids = self.inner.encode(text, add_special_tokens=False).ids
            _remember(self._encoded, text, ids)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids, end and padding tokens left out."""
        key = tuple(ids)
        text = self._decoded.get(key)
        if text is None:
            text = self.inner.decode(list(key), skip_special_tokens=True)
            _remember(self._decoded, key, text)
        return text

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """From a model folder; the end token comes from tokenizer_config.json, else config.json.

        Raises `ModelFolderError`, `TokenizerMissingError`.
        """
        config = read_config(folder)
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise TokenizerMissingError(
                f"{str(folder)!r} has no tokenizer.json; save the model's fast tokenizer there "
                "(transformers: AutoTokenizer.from_pretrained(...).save_pretrained(folder))"
            )
        try:
            inner = tk.Tokenizer.from_file(str(path))
            settings = folder / "tokenizer_config.json"
            named = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
        except Exception as error:  # the Rust side raises bare Exception on malformed files
            raise TokenizerMissingError(f"cannot read the tokenizer of {str(folder)!r}: {error}") from error
        inner.no_padding()
        inner.no_truncation()
        eos = _special_id(inner, named.get("eos_token"), config.get("eos_token_id"))
        if eos is None:
            raise TokenizerMissingError(
                f"{str(folder)!r}: neither tokenizer_config.json nor config.json names an end token"
            )
        return cls(inner, eos, _special_id(inner, named.get("pad_token"), config.get("pad_token_id")))

    def save(self, folder: Path, max_positions: int) -> None:
        """Write tokenizer.json and tokenizer_config.json as transformers reads them."""
        folder.mkdir(parents=True, exist_ok=True)
        self.inner.save(str(folder / "tokenizer.json"))
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": EOS,
            "pad_token": PAD,
            "model_max_length": max_positions,
            "clean_up_tokenization_spaces": False,
        }
        if self.inner.token_to_id(UNK) is not None:
            settings["unk_token"] = UNK
        text = json.dumps(settings, indent=2) + "\n"
        (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def train_tokenizer(kind: TokenizerKind, texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train on environment text and prompt templates; the same texts in the same order give the same ids.

    `vocab_size` bounds the ids, special tokens included (word level: the commonest words stay).
    """
    if kind == "byte-bpe":
        inner = tk.Tokenizer(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=vocab_size - len(TAGS) - 2,
            show_progress=False,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        )
        inner.train_from_iterator(map(_without_tags, texts), trainer)
    else:
        inner = _word_level(kind)
        counts = _count_words(inner, texts)
        specials = (PAD, EOS, UNK, *TAGS)
        words = sorted((w for w in counts if w not in specials), key=lambda w: (-counts[w], w))
        vocab = {w: i for i, w in enumerate((*specials, *words[: max(vocab_size - len(specials), 0)]))}
        inner.model = models.WordLevel(vocab, unk_token=UNK)
    inner.add_special_tokens([PAD, EOS, UNK] if kind != "byte-bpe" else [PAD, EOS])
    inner.add_tokens([tk.AddedToken(tag, normalized=False) for tag in TAGS])
    vocabulary: dict[str, int] = inner.get_vocab(with_added_tokens=True)
    return Tokenizer(inner, vocabulary[EOS], vocabulary[PAD])


class _QuickWords(dict[str, int]):
    """A word-level tokenizer's `encode` in plain Python, several times as quick as the general one; ASCII texts only.

    Maps words as they are written to ids, filled as words are met.
    """

    def __init__(self, split: str, vocabulary: dict[str, int], unknown: int) -> None:
        super().__init__()
        marks = [word for word in vocabulary if word.startswith("<") and word.endswith(">")]
        words, sign = split.rsplit("|", 1)
        self._find = re.compile("|".join([words, *map(re.escape, marks), sign]), re.ASCII).findall
        self._vocabulary, self._unknown, self._marks = vocabulary, unknown, frozenset(marks)

    def encode(self, text: str) -> list[int]:
        return list(map(self.__getitem__, self._find(text)))

    def __missing__(self, word: str) -> int:
        found = self._vocabulary.get(word if word in self._marks else word.lower(), self._unknown)
        _remember(self, word, found)
        return found


def _quick_words(inner: tk.Tokenizer) -> _QuickWords | None:
    """For a tokenizer that splits as ours do; None for any other."""
    unknown = inner.token_to_id(UNK)
    if not isinstance(inner.model, models.WordLevel) or unknown is None:
        return None
    for kind, split in _SPLITS.items():
        ours = _word_level(kind)
        parts = ((inner.pre_tokenizer, ours.pre_tokenizer), (inner.normalizer, ours.normalizer))
        if all(a is not None and a.__getstate__() == b.__getstate__() for a, b in parts):
            return _QuickWords(split, inner.get_vocab(with_added_tokens=True), unknown)
    return None


def _word_level(kind: TokenizerKind) -> tk.Tokenizer:
    """Lower case; words, numbers, single signs and line ends; spaces are dropped and put back by the decoder."""
    inner = tk.Tokenizer(models.WordLevel({UNK: 0}, unk_token=UNK))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Split(tk.Regex(_SPLITS[kind]), behavior="removed", invert=True)
    opening, closing = "([", ".,:;!?)]'"
    tidy = [(f" {sign}", sign) for sign in closing] + [(f"{sign} ", sign) for sign in opening]
    tidy += [(" \n", "\n"), ("\n ", "\n")]
    tidy += [(f"{tag} ", tag) for tag in TAGS] + [(f" {tag}", tag) for tag in TAGS]
    spaced = decoders.Replace(tk.Regex("^(?=.|\n)"), " ")
    inner.decoder = decoders.Sequence(
        [spaced, decoders.Fuse(), *(decoders.Replace(a, b) for a, b in tidy), decoders.Strip(" ", 1, 0)]
    )
    return inner


def _count_words(inner: tk.Tokenizer, texts: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    normalizer, splitter = inner.normalizer, inner.pre_tokenizer
    for text in texts:
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(_without_tags(text))):
            counts[word] = counts.get(word, 0) + 1
    return counts


def _without_tags(text: str) -> str:
    return reduce(lambda rest, tag: rest.replace(tag, " "), TAGS, text)


def _special_id(inner: tk.Tokenizer, name: Any, fallback: Any) -> int | None:
    """Id of a special token from its text (or its added-token record), else the number config.json gives."""
    if isinstance(name, dict):
        name = name.get("content")
    if isinstance(name, str):
        found: int | None = inner.token_to_id(name)
        if found is not None:
            return found
    if isinstance(fallback, list) and fallback:
        fallback = fallback[0]
    return fallback if isinstance(fallback, int) else None


def _remember(cache: dict[Any, Any], key: Any, value: Any) -> None:
    if len(cache) >= CACHE_SIZE:
        for old in list(cache)[: CACHE_SIZE // 2]:
            del cache[old]
    cache[key] = value
