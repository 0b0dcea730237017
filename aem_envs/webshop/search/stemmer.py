"""Porter's stemmer with the departures that its author made and Lucene kept ("bli", "logi", no word of two letters).

Source: M. F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980, and the notes of
https://tartarus.org/martin/PorterStemmer. All characters but a, e, i, o, u and some y are consonants, as in Lucene.
"""

Rules = tuple[tuple[str, str], ...]

_STEP_2: Rules = (
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("bli", "ble"),
    ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"), ("ization", "ize"), ("ation", "ate"),
    ("ator", "ate"), ("alism", "al"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"),
    ("iviti", "ive"), ("biliti", "ble"), ("logi", "log"),
)  # fmt: skip
_STEP_3: Rules = (
    ("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", ""),
)  # fmt: skip
_STEP_4 = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
)  # fmt: skip


def stem(word: str) -> str:
    """Stem of a lower-case word."""
    if not word.isascii() and max(word) > "\uffff":
        return _joined(stem(_split(word)))  # Lucene counts UTF-16 units
    if len(word) <= 2:
        return word
    word = _step_1(word)
    word = _replaced(word, _STEP_2)
    word = _replaced(word, _STEP_3)
    return _step_5(_step_4(word))


def _step_1(word: str) -> str:
    """Plurals, -ed, -ing and a last y."""
    if word.endswith(("sses", "ies")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    if word.endswith("eed"):
        if _measure(word[:-3]) > 0:
            word = word[:-1]
    else:
        cut = 2 if word.endswith("ed") else 3 if word.endswith("ing") else 0
        if cut and "v" in _shape(word[:-cut]):
            word = _repaired(word[:-cut])
    if word.endswith("y") and "v" in _shape(word[:-1]):
        word = word[:-1] + "i"
    return word


def _repaired(word: str) -> str:
    """A word that has just lost -ed or -ing."""
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if _double_consonant(word):
        return word if word[-1] in "lsz" else word[:-1]
    if _measure(word) == 1 and _closed(word):
        return word + "e"
    return word


def _replaced(word: str, rules: Rules) -> str:
    """`word` with the first suffix of `rules` that it has replaced, where a syllable is left before it."""
    for suffix, new in rules:
        if word.endswith(suffix):
            left = word[: len(word) - len(suffix)]
            return left + new if _measure(left) > 0 else word
    return word


def _step_4(word: str) -> str:
    for suffix in _STEP_4:
        if word.endswith(suffix):
            left = word[: len(word) - len(suffix)]
            if suffix == "ion" and not left.endswith(("s", "t")):
                continue
            return left if _measure(left) > 1 else word
    return word


def _step_5(word: str) -> str:
    """A last e, and the second of two last l."""
    measure = _measure(word)
    if word.endswith("e") and (measure > 1 or (measure == 1 and not _closed(word[:-1]))):
        word = word[:-1]
    if word.endswith("ll") and measure > 1:
        word = word[:-1]
    return word


def _shape(word: str) -> str:
    """ "v" for each vowel and "c" for each consonant; y is a vowel after a consonant."""
    shape = ""
    last = "v"
    for letter in word:
        last = "v" if letter in "aeiou" or (letter == "y" and last == "c") else "c"
        shape += last
    return shape


def _measure(word: str) -> int:
    """How often a consonant follows a vowel."""
    return _shape(word).count("vc")


def _double_consonant(word: str) -> bool:
    return len(word) > 1 and word[-1] == word[-2] and _shape(word)[-1] == "c"


def _closed(word: str) -> bool:
    """Ends with consonant, vowel, consonant, the last of them not w, x or y."""
    return _shape(word)[-3:] == "cvc" and word[-1] not in "wxy"


def _split(word: str) -> str:
    """`word` with each character beyond the basic plane as two surrogates."""
    return "".join(
        letter if letter <= "\uffff" else chr(0xD7C0 + (ord(letter) >> 10)) + chr(0xDC00 + (ord(letter) & 0x3FF))
        for letter in word
    )


def _joined(word: str) -> str:
    return word.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
