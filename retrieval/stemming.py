"""Words to stems: what a word and its inflections have in common, as a rule of thumb.

English is Porter's second stemmer, the one known as Porter2 (Porter 2001, snowballstem.org), with
the exceptions of Snowball 3. The others take one ending of a noun, an adjective or a verb away.
"""

import re
from collections.abc import Callable, Mapping

Stem = Callable[[str], str]

EXCEPTIONS = {
    **{"skis": "ski", "skies": "sky", "idly": "idl", "gently": "gentl", "ugly": "ugli"},
    **{"early": "earli", "only": "onli", "singly": "singl"},
    **{"dying": "die", "lying": "lie", "tying": "tie"},
    **dict.fromkeys(("paste", "pastes", "pasted", "pasting"), "paste"),  # not the past
    **{word: word for word in ("sky", "news", "howe", "atlas", "cosmos", "bias", "andes")},
}
# What would lose an ending that is none, once its plural is gone.
WHOLE = {"inning", "outing", "canning", "herring", "earring", "evening"} | {
    *("proceed", "exceed", "succeed"),
}

PARTICIPLES = {"eedly": "ee", "eed": "ee", "ingly": "", "edly": "", "ing": "", "ed": ""}
DERIVED = {
    **{"tional": "tion", "ational": "ate", "ation": "ate", "ator": "ate"},
    **{"enci": "ence", "anci": "ance", "abli": "able", "bli": "ble", "biliti": "ble"},
    **{"izer": "ize", "ization": "ize", "alism": "al", "aliti": "al", "alli": "al"},
    **{"ousli": "ous", "ousness": "ous", "iveness": "ive", "iviti": "ive", "fulness": "ful"},
    **{"entli": "ent", "fulli": "ful", "lessli": "less", "ogist": "og", "ogi": "og"},
    "li": "",
}
ADJECTIVAL = {
    **{"tional": "tion", "ational": "ate", "alize": "al", "icate": "ic", "iciti": "ic"},
    **{"ical": "ic", "ful": "", "ness": "", "ative": ""},
}
RESIDUAL = dict.fromkeys(
    (
        *("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent"),
        *("ism", "ate", "iti", "ous", "ive", "ize", "ion"),
    ),
    "",
)
# The letters that must stand before an ending for it to be one.
BEFORE = {"ogi": "l", "li": "cdeghkmnrt", "ion": "st"}

VOWEL = re.compile("[aeiouy]")
SYLLABLE = re.compile("[aeiouy][^aeiouy]")  # behind its end begins a region
LONG_PREFIX = re.compile("gener|commun|arsen|univers|later|emerg|organ|inter")
SHORT_END = re.compile("([^aeiouy][aeiouy][^aeiouywxY]|^[aeiouy][^aeiouy])$")
CONSONANT_Y = re.compile("(^|(?<=[aeiouy]))y")
DOUBLE_END = re.compile("(?<!^[aeo])(bb|dd|ff|gg|mm|nn|pp|rr|tt)$")  # but "add", "egg", "off"


def english(word: str) -> str:
    """The Porter2 stem of a word in lower case and without apostrophes."""
    if len(word) < 3:
        return word
    if word in EXCEPTIONS:
        return EXCEPTIONS[word]
    word = CONSONANT_Y.sub("Y", word)
    first = _region(word, LONG_PREFIX.match(word) or SYLLABLE.search(word))
    second = _region(word, SYLLABLE.search(word, first))
    word = _singular(word)
    if word in WHOLE:
        return word
    word = _without_participle(word, first)
    if word[-1] in "yY" and len(word) > 2 and not VOWEL.match(word[-2]):
        word = word[:-1] + "i"
    word = _replaced(word, DERIVED, first)
    adjectival = _ending(word, ADJECTIVAL)
    word = _replaced(word, ADJECTIVAL, second if adjectival == "ative" else first)
    word = _replaced(word, RESIDUAL, second)
    return _without_last(word, first, second).lower()


def _region(word: str, behind: re.Match[str] | None) -> int:
    return behind.end() if behind else len(word)


def _ending(word: str, endings: Mapping[str, str]) -> str | None:
    """The longest of the endings that the word has."""
    return next((word[-n:] for n in range(7, 1, -1) if word[-n:] in endings), None)


def _replaced(word: str, endings: Mapping[str, str], region: int) -> str:
    ending = _ending(word, endings)
    if ending is None or len(word) - len(ending) < region:
        return word
    rest = word[: -len(ending)]
    if ending in BEFORE and rest[-1:] not in tuple(BEFORE[ending]):
        return word
    return rest + endings[ending]


def _singular(word: str) -> str:
    if word.endswith("sses"):
        return word[:-2]
    if word.endswith(("ies", "ied")):
        return word[:-2] if len(word) > 4 else word[:-1]
    if word.endswith("s") and not word.endswith(("us", "ss")) and VOWEL.search(word[:-2]):
        return word[:-1]
    return word


def _without_participle(word: str, first: int) -> str:
    ending = _ending(word, PARTICIPLES)
    if ending is None:
        return word
    if PARTICIPLES[ending]:
        return _replaced(word, PARTICIPLES, first)
    rest = word[: -len(ending)]
    if not VOWEL.search(rest):
        return word
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    if DOUBLE_END.search(rest):
        return rest[:-1]
    return rest + "e" if len(rest) <= first and SHORT_END.search(rest) else rest


def _without_last(word: str, first: int, second: int) -> str:
    """Without an "e" that is silent, or the second of two "l"."""
    rest = word[:-1]
    if word.endswith("e"):
        silent = len(rest) >= second or (len(rest) >= first and not SHORT_END.search(rest))
        return rest if silent else word
    return rest if word.endswith("ll") and len(rest) >= second else word


def light(*endings: str, shortest: int = 3) -> Stem:
    """A stemmer that takes the first of the endings away that leaves ``shortest`` letters."""

    def stem(word: str) -> str:
        for ending in endings:
            if word.endswith(ending) and len(word) - len(ending) >= shortest:
                return word[: -len(ending)]
        return word

    return stem


# Of words without accents: see :mod:`retrieval.analysis`.
STEMMERS: Mapping[str, Stem] = {
    "english": english,
    "french": light("ees", "ee", "es", "er", "ez", "e", "s", "x"),
    "german": light("ern", "em", "en", "er", "es", "e"),
    "spanish": light("amente", "mente", "es", "os", "as", "s", "a", "e", "o"),
}
