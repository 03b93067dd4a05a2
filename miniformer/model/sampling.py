"""From scores to the next token: penalties, temperature, top-k, nucleus, and the draw."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Filter = Callable[[Tensor], Tensor]


def penalised(scores: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make tokens that ``seen`` bool [R, V] marks less likely (Keskar et al. 2019, section 4.1)."""
    return torch.where(seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)


def top_k_only(scores: Tensor, k: int) -> Tensor:
    """Keep the k best of scores [R, V], and what ties with the last of them; others get -inf."""
    kept = scores.topk(min(k, scores.size(-1)), dim=-1).values
    return scores.masked_fill(scores < kept[:, -1:], float("-inf"))


def top_p_only(scores: Tensor, p: float) -> Tensor:
    """Keep the fewest tokens whose probabilities sum to p (Holtzman et al. 2020); others get -inf.

    The best token always stays.
    """
    ascending, order = scores.sort(dim=-1)
    outside = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - p
    outside[:, -1] = False
    return scores.masked_fill(outside.scatter(1, order, outside), float("-inf"))


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen; the settings that change nothing cost nothing.

    ``temperature`` ≥ 0 (0 is greedy), ``top_k`` ≥ 0 (0 = off), 0 < ``top_p`` ≤ 1 (1 = off),
    ``repetition_penalty`` > 0 (1 = off). ValueError for anything else.
    """

    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ValueError(f"temperature must be 0 or more, got {self.temperature!r}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 (off) or more, got {self.top_k!r}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1 (off), got {self.top_p!r}")
        if not self.repetition_penalty > 0:
            raise ValueError(f"repetition_penalty must be above 0: {self.repetition_penalty!r}")

    @property
    def draws(self) -> bool:
        """Whether chance decides."""
        return self.do_sample and self.temperature > 0

    def filters(self) -> list[Filter]:
        """Temperature, top-k and nucleus, in this order, as far as they are on."""
        steps: list[tuple[bool, Filter]] = [
            (self.temperature != 1, lambda scores: scores / self.temperature),
            (self.top_k > 0, lambda scores: top_k_only(scores, self.top_k)),
            (self.top_p < 1, lambda scores: top_p_only(scores, self.top_p)),
        ]
        return [step for on, step in steps if on]

    def choose(self, scores: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A token id [R] for each row of scores [R, V]."""
        if not self.draws:
            return scores.argmax(dim=-1)
        scores = scores.float()
        for apply in self.filters():
            scores = apply(scores)
        chances = scores.softmax(dim=-1)
        return torch.multinomial(chances, 1, generator=generator)[:, 0]
