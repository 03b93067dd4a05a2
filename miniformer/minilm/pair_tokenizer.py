"""Two texts to the one sequence that a cross-encoder reads: [CLS] first [SEP] second [SEP]."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from miniformer.minilm.tokenizer import MiniLMTokenizer, pad
from miniformer.weights import DEFAULT_MODEL

if TYPE_CHECKING:
    from torch import Tensor

SPECIAL = 3  # [CLS] and two [SEP]
SHORTEST = SPECIAL + 2  # a token of each text


@dataclass(frozen=True)
class PairRow:
    """The ids of a pair; the first ``first`` of them are of type 0, the others of type 1."""

    ids: list[int]
    first: int


class PairTokenizer:
    """The tokenizer of one model for pairs of at most ``max_length`` tokens, special ones included.

    Ids, types and truncation are those of transformers with ``truncation="longest_first"``, as
    sentence-transformers' CrossEncoder reads pairs: a question shorter than half of the length
    stays whole and only the passage is cut.
    """

    def __init__(
        self, model_name: str = DEFAULT_MODEL, max_length: int = 512, *, lower_case: bool = False
    ) -> None:
        if max_length < SHORTEST:
            raise ValueError(
                f"max_length must be at least {SHORTEST} (a token of each text): {max_length}"
            )
        self.max_length = max_length
        self._single = MiniLMTokenizer(model_name, max_length, lower_case=lower_case)

    def rows(self, pairs: Sequence[tuple[str, str]]) -> list[PairRow]:
        """The row of each pair; a text that comes again is tokenized once."""
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        ids, dropped = self._single.token_ids(texts) if texts else ([], [])
        found = dict(zip(texts, zip(ids, dropped, strict=True), strict=True))
        return [self._row(*found[first], *found[second]) for first, second in pairs]

    def _row(
        self, first: list[int], first_lost: int, second: list[int], second_lost: int
    ) -> PairRow:
        lengths = len(first) - 2 + first_lost, len(second) - 2 + second_lost
        kept, rest = longest_first(*lengths, self.max_length - SPECIAL)
        head = [*first[: kept + 1], first[-1]]
        return PairRow([*head, *second[1 : rest + 1], second[-1]], len(head))


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens stay of two texts that together may have ``room``: the longer one is cut
    until both are of one length, then both; an odd token is the longer one's, else the second's.
    """
    if first + second <= room:
        return first, second
    short = min(first, second, room // 2)
    return (room - short, short) if first > second else (short, room - short)


def pad_pairs(rows: Sequence[PairRow], multiple: int = 1) -> "tuple[Tensor, Tensor, Tensor]":
    """Ids, mask and types, int64 [B, L] each; L is the longest row, rounded up to a multiple."""
    import torch

    ids, mask = pad([row.ids for row in rows], multiple)
    firsts = torch.tensor([row.first for row in rows])[:, None]
    types = (torch.arange(ids.size(1)) >= firsts) & mask.bool()
    return ids, mask, types.long()
