"""Text to the terms that lexical search counts: words, folded, without stop words, stemmed."""

import re
import unicodedata
from functools import lru_cache

from retrieval.stemming import STEMMERS

# Vowel signs of India's scripts are no letters to ``re``, but stand within words.
INDIC = "\u0900-\u0963\u0966-\u0dff"
LETTERS = rf"(?:[^\W_]+|[{INDIC}]+)+"
WORD = re.compile(rf"{LETTERS}(?:['’]{LETTERS})*")
# Accents, and the points of Hebrew and Arabic, which most texts leave out.
POINTS = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670]")
# Thai, Lao, Burmese, Khmer, kana and Chinese characters, written without spaces.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff"
RUN = re.compile(f"[{UNSPACED}]+|[^{UNSPACED}]+")
IS_UNSPACED = re.compile(f"[{UNSPACED}]")
LONGEST = 64  # characters of a term; what is longer is no word
KEPT = 65_536  # words whose term is remembered
# The function words of Snowball's lists, as far as they are common in texts and in questions.
WORDS = {
    "english": """
        a about above after again against all am an and any are as at be because been before
        being below between both but by can could did do does doing don down during each few for
        from further had has have having he her here hers herself him himself his how i if in into
        is it its itself just me more most my myself no nor not now of off on once only or other
        ought our ours ourselves out over own same she should so some such than that the their
        theirs them themselves then there these they this those through to too under until up very
        was we were what when where which while who whom why will with would you your yours
        yourself yourselves ain aren couldn didn doesn hadn hasn haven isn ll mustn needn re shan
        shouldn ve wasn weren won wouldn""",
    "french": """
        au aux avec ce ces cet cette dans de des du elle elles en est et eux il ils je la le les
        leur leurs lui ma mais me mes moi mon ne nos notre nous on ou par pas plus pour qu que qui
        sa se ses son sont sur ta te tes toi ton tu un une vos votre vous etait ete l d j m t s
        c n jusqu lorsqu puisqu quoiqu""",
    "german": """
        aber als am an auch auf aus bei bin bis bist da dann das dass dem den der des die dies
        diese dieser dieses doch du durch ein eine einem einen einer eines er es fur hat hatte ich
        ihr ihre im in ist ja kann kein keine man mein mit nach nicht noch nur ob oder ohne sein
        seine sich sie sind so uber um und uns unter vom von vor war was wenn werden wie wir wird
        zu zum zur""",
    "spanish": """
        a al algo ante como con cual cuando de del desde donde el ella ellas ellos en entre era
        es esa ese eso esta estas este esto estos fue ha hay la las le les lo los mas me mi muy no
        nos o para pero por porque que quien se ser si sin sobre son su sus tambien te tu un una
        uno unos y ya yo""",
    "none": "",
}
STOP_WORDS = {language: frozenset(words.split()) for language, words in WORDS.items()}
LANGUAGES = tuple(STOP_WORDS)
DEFAULT_LANGUAGE = "english"


def terms(text: str, language: str = DEFAULT_LANGUAGE) -> list[str]:
    """The terms of a text in order, repeated ones as often as they come. ``language`` is one of
    ``LANGUAGES``; ``"none"`` neither stems nor leaves words out. ValueError for another.
    """
    check_language(language)
    return [term for word in WORD.findall(folded(text)) for term in _terms(word, language)]


def check_language(language: str) -> str:
    """The language, where it is known; ValueError where it is not."""
    if language not in LANGUAGES:
        raise ValueError(f"unknown language {language!r}; known are {', '.join(LANGUAGES)}")
    return language


def folded(text: str) -> str:
    """Lower case, without accents and in one form of each character."""
    if text.isascii():
        return text.lower()
    parts = POINTS.sub("", unicodedata.normalize("NFKD", text.casefold()))
    return unicodedata.normalize("NFC", parts)


@lru_cache(KEPT)
def _terms(word: str, language: str) -> tuple[str, ...]:
    """What stands for a word; nothing for a stop word."""
    parts = re.split("['’]", word)
    if language == "english" and len(parts[0]) > 1:
        parts = parts[:1]  # isn't, cat's; but O'Neill
    elif language != "french":  # whose articles are elided: l'eau
        parts = ["".join(parts)]
    stem = STEMMERS.get(language, str)
    return tuple(
        stem(piece) if piece.isalpha() else piece
        for part in parts
        for piece in _pieces(part)
        if piece not in STOP_WORDS[language] and len(piece) <= LONGEST
    )


def _pieces(word: str) -> list[str]:
    """The word, or where no space parts words every two neighbouring characters."""
    if word.isascii():
        return [word]
    pieces = []
    for run in RUN.findall(word):
        pairs = len(run) > 1 and IS_UNSPACED.match(run)
        pieces += [run[at : at + 2] for at in range(len(run) - 1)] if pairs else [run]
    return pieces
