"""A question beside each of its passages, as rows of ids; and from places back to characters."""

import unicodedata
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

MOST_OF_QUESTION = 64  # tokens; the rest of a question is not read
OVERLAP = 64  # tokens that two windows of a long passage share


class PassageRows:
    """Rows ``[CLS] question [SEP] window [SEP]``: one a passage, several where it is longer.

    Of each row: ``passages`` says whose it is, ``begins`` where its window begins, ``offsets`` the
    characters in the passage of each token of the window.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.rows: list[list[int]] = []
        self.passages: list[int] = []
        self.begins: list[int] = []
        self.offsets: list[Sequence[tuple[int, int]]] = []

    def __len__(self) -> int:
        """The tokens of the longest row."""
        return max(map(len, self.rows))

    def first(self, count: int) -> "PassageRows":
        """Only the first rows."""
        kept = PassageRows(self.texts)
        kept.rows, kept.passages = self.rows[:count], self.passages[:count]
        kept.begins, kept.offsets = self.begins[:count], self.offsets[:count]
        return kept

    def characters(self, row: int, first: int, last: int) -> tuple[int, int, int]:
        """The passage of a row, and where places ``first`` … ``last`` begin and end in its text,
        with the accents behind the last letter, which no token has.
        """
        begin, offsets, passage = self.begins[row], self.offsets[row], self.passages[row]
        end = offsets[last - begin][1]
        while unicodedata.combining(self.texts[passage][end : end + 1] or " "):
            end += 1
        return passage, offsets[first - begin][0], end

    def places(self, passage: int, start: int, end: int) -> tuple[int, int, int] | None:
        """The row and the first and last place of characters ``start`` … ``end`` of a passage; None
        where no window has them whole.
        """
        for row, owner in enumerate(self.passages):
            offsets = self.offsets[row]
            if owner != passage or not offsets or not offsets[0][0] <= start < end:
                continue
            within = [n for n, (a, b) in enumerate(offsets) if a < end and b > start]
            whole = offsets[-1][1] >= end or passage not in self.passages[row + 1 :]
            if within and whole:
                return row, self.begins[row] + within[0], self.begins[row] + within[-1]
        return None


def plain(tokenizer: Any) -> Any:
    """A copy of a ``tokenizers.Tokenizer`` with [CLS] and [SEP] that reads the whole of a text, and
    in it the names of special tokens as the characters that they are.
    """
    own = deepcopy(tokenizer)
    own.no_truncation()
    own.no_padding()
    own.encode_special_tokens = True
    return own


def read_passages(
    tokenizer: Any, question: str, passages: Sequence[str], length: int
) -> PassageRows:
    """Rows of at most ``length`` tokens, by a tokenizer of :func:`plain`; ValueError where that is
    no room for a passage.
    """
    cls, sep = (tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
    asked, *read = tokenizer.encode_batch([question, *passages], add_special_tokens=False)
    head = [cls, *asked.ids[:MOST_OF_QUESTION], sep]
    room = length - len(head) - 1
    if room <= OVERLAP:
        raise ValueError(f"rows of {length} tokens have no room for a passage")
    result = PassageRows(passages)
    for number, encoding in enumerate(read):
        ids, offsets = encoding.ids, encoding.offsets
        for begin in range(0, max(1, len(ids) - OVERLAP), room - OVERLAP):
            result.rows.append([*head, *ids[begin : begin + room], sep])
            result.passages.append(number)
            result.begins.append(len(head))
            result.offsets.append(offsets[begin : begin + room])
            if begin + room >= len(ids):
                break
    return result


def stack_rows(read: Sequence[PassageRows], multiple: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """Ids and mask int64 [B, k, L] and where the windows stand, bool [B, k, L]; padding is 0. L is
    the longest row, rounded up to a multiple.
    """
    width = max(map(len, read))
    width += -width % multiple
    ids = torch.zeros(len(read), max(len(each.rows) for each in read), width, dtype=torch.int64)
    mask, windows = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    for index, each in enumerate(read):
        for number, row in enumerate(each.rows):
            ids[index, number, : len(row)] = torch.tensor(row)
            mask[index, number, : len(row)] = 1
            windows[index, number, each.begins[number] : len(row) - 1] = True
    return ids, mask, windows
