"""Where the sentences of a text begin: by full stops, what follows them, and empty lines."""

import re

# A look behind lets a run of stops match at its beginning only, so that a text of nothing but
# stops costs no more than another.
END = re.compile(
    r"""(?<![.!?…])[.!?…]+["'”’»)\]]*(?=\s)
    | [。！？]+["'”’」』）】]*
    | \n[^\S\n]*\n""",
    re.VERBOSE,
)
GAP = re.compile(r"\s*")
LAST_WORD = re.compile(r"[\w.]+\Z")
LONGEST = 12  # characters of an abbreviation that are looked at
ABBREVIATIONS = frozenset(
    re.findall(
        r"\S+",
        """al approx bzw ca cf ch co corp dr ed eds eq etc e.g ex fig figs i.e inc jr ltd m mr mrs
        ms no nos p pp prof resp rev sec sect sr st usw v viz vol vols vs z.b""",
    )
)


def sentence_starts(text: str) -> list[int]:
    """The characters at which sentences begin, ascending, 0 first."""
    starts = [0]
    for end in END.finditer(text):
        gap = GAP.match(text, end.end())
        start = gap.end() if gap else end.end()
        if starts[-1] < start < len(text) and not _goes_on(text, end.group(), end.start(), start):
            starts.append(start)
    return starts


def _goes_on(text: str, end: str, stop: int, after: int) -> bool:
    """Whether full stops end an abbreviation, an initial or an omission, and no sentence."""
    if end.strip(".…"):
        return False
    word = LAST_WORD.search(text[max(0, stop - LONGEST) : stop])
    before = word.group() if word else ""
    initial = len(before) == 1 and before.isupper()
    return text[after].islower() or initial or before.lower() in ABBREVIATIONS
