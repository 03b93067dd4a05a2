"""The words, signs and values of a filter, and errors that point at one of them."""

import re
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from indexes.errors import WhereError

LONGEST = 10_000  # characters of a filter
SHOWN = 40  # characters that an error shows on either side of what it points at

KEYWORDS = {"and", "or", "not", "in", "like", "is", "null", "true", "false"}
TOKENS = re.compile(
    r"""(?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      | (?P<text>'[^']*(?:''[^']*)*'(?!'))
      | (?P<quoted>"[^"]*(?:""[^"]*)*"(?!"))
      | (?P<word>[^\W\d]\w*)
      | (?P<sign><=|>=|!=|[=<>(),])
      | (?P<space>\s+)""",
    re.VERBOSE,
)
NEVER_CLOSED = {
    "'": "the text that begins here is never closed; expected '",
    '"': 'the name that begins here is never closed; expected "',
}


class Token(NamedTuple):
    """A piece of a filter; ``kind`` is a group of TOKENS, keyword or end; ``at`` counts from 0."""

    kind: str
    text: str
    at: int

    @property
    def content(self) -> str:
        """What stands between the quotes of a text or a quoted name; any other piece as it is."""
        if self.kind not in ("text", "quoted"):
            return self.text
        quote = self.text[0]
        return self.text[1:-1].replace(2 * quote, quote)


class Tokens:
    """A filter, read from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        if len(text) > LONGEST:
            self.fail(f"the filter has {len(text)} characters, at most {LONGEST} are read", LONGEST)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            self.fail("half of a surrogate pair is not text", error.start)
        self._tokens = list(self._scan())
        self._at = 0

    def _scan(self) -> Iterator[Token]:
        at = 0
        while at < len(self._text):
            match = TOKENS.match(self._text, at)
            if match is None:
                self.fail(NEVER_CLOSED.get(self._text[at], "this is no part of a filter"), at)
            kind, text = str(match.lastgroup), match[0]
            if kind == "word" and text.lower() in KEYWORDS:
                yield Token("keyword", text.lower(), at)
            elif kind != "space":
                yield Token(kind, text, at)
            at = match.end()
        yield Token("end", "", at)

    @property
    def now(self) -> Token:
        """The token that is read next."""
        return self._tokens[self._at]

    @property
    def after(self) -> Token:
        """The one after it."""
        return self._tokens[min(self._at + 1, len(self._tokens) - 1)]

    def step(self) -> Token:
        """Read the next token; the end stays."""
        token = self.now
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def take(self, *symbols: str) -> Token | None:
        """Read the next token where it is one of these keywords or signs."""
        is_one = self.now.kind in ("keyword", "sign") and self.now.text in symbols
        return self.step() if is_one else None

    def require(self, symbol: str) -> None:
        """Read this keyword or sign; WhereError when another token comes."""
        if not self.take(symbol):
            self.expected(symbol)

    def expected(self, what: str, token: Token | None = None, hint: str = "") -> NoReturn:
        """Raise WhereError at a token, by default the next."""
        token = token or self.now
        found = _printable(token.text[:SHOWN]) or "the end"
        self.fail(f"expected {what}, found {found}{hint}", token.at)

    def fail(self, problem: str, at: int) -> NoReturn:
        """Raise WhereError at a character."""
        start, stop = max(0, at - SHOWN), at + SHOWN
        before, after = "…" * (start > 0), "…" * (stop < len(self._text))
        shown = f"{before}{_printable(self._text[start:stop])}{after}"
        raise WhereError(f"character {at + 1} of the filter «{shown}»: {problem}")


def _printable(text: str) -> str:
    """The text on one line, without what would move a terminal's cursor."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)
