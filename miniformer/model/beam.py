"""Batched beam search with a length penalty; it ends as transformers' does."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from miniformer.model.decoding import Decoding

NEVER = -1e9  # a score that no real hypothesis has


@dataclass(frozen=True)
class BeamSearch:
    """``width`` hypotheses a source; scores are log-probabilities over length^``length_penalty``.

    ``early_stopping``: True stops with ``width`` finished hypotheses, False when the best running
    one could not win at its present length, "never" when it could not win at any length.
    """

    width: int
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"num_beams must be at least 1, got {self.width}")
        if self.early_stopping not in (True, False, "never"):
            raise ValueError(
                f"early_stopping must be True, False or 'never', got {self.early_stopping!r}"
            )

    def hypothetical_length(self, written: int, limit: int) -> int:
        """The length at which a running hypothesis is held against the finished ones."""
        hopes = self.early_stopping == "never" and self.length_penalty > 0
        return limit if hopes else written


@dataclass
class Finished:
    """The best ``width`` finished hypotheses of each source: ids [B, W, T], scores [B, W]."""

    ids: Tensor
    scores: Tensor
    lengths: Tensor
    real: Tensor

    def offer(self, ids: Tensor, scores: Tensor, length: int, real: Tensor) -> None:
        """Take up those of the candidates [B, C] that beat the worst held."""
        width = self.scores.size(1)
        lengths = torch.full_like(real, length, dtype=torch.long)
        scores, best = torch.cat([self.scores, scores], 1).topk(width, dim=1)
        self.scores = scores
        self.ids = gather(torch.cat([self.ids, ids], 1), best)
        self.lengths = torch.cat([self.lengths, lengths], 1).gather(1, best)
        self.real = torch.cat([self.real, real], 1).gather(1, best)


def gather(ids: Tensor, chosen: Tensor) -> Tensor:
    """Rows [B, C, T] of hypotheses [B, W, T]."""
    return ids.gather(1, chosen[:, :, None].expand(-1, -1, ids.size(2)))


class Beams:
    """The running hypotheses of every source, and how one step changes them."""

    def __init__(self, search: BeamSearch, prompt: Tensor, limit: int, pad: int) -> None:
        batch, length = prompt.shape
        width = search.width
        self.search, self.limit, self.prompt_length = search, limit, length
        ids = torch.full((batch, width, length + limit), pad, device=prompt.device)
        ids[:, :, :length] = prompt[:, None]
        self.ids = ids
        self.scores = torch.zeros(batch, width, device=prompt.device)
        self.scores[:, 1:] = NEVER  # all begin alike: only the first may branch at the first step
        nothing = torch.full_like(self.scores, NEVER)
        self.finished = Finished(
            ids.clone(), nothing, torch.zeros_like(nothing).long(), torch.zeros_like(nothing).bool()
        )
        self.may_improve = torch.ones(batch, 1, dtype=torch.bool, device=prompt.device)
        self.over = False

    def written(self, count: int) -> Tensor:
        """What every running hypothesis has written before token ``count``: [B·W, count - 1]."""
        return self.ids[:, :, self.prompt_length : self.prompt_length + count - 1].flatten(0, 1)

    def advance(self, log_probabilities: Tensor, written: int, ends: Tensor) -> Tensor:
        """Take one step on log-probabilities [B·W, V]; ``ends`` bool [V] marks tokens that finish.

        Returns, for every running hypothesis, the row [B·W] that it continues.
        """
        batch, width = self.scores.shape
        vocabulary = log_probabilities.size(-1)
        total = log_probabilities.view(batch, width, vocabulary) + self.scores[:, :, None]
        candidates = max(2, 1 + int(ends.sum())) * width
        best, flat = total.flatten(1).topk(min(candidates, total[0].numel()), dim=1)
        parents, tokens = flat // vocabulary, flat % vocabulary
        ids = gather(self.ids, parents)
        ids[:, :, self.prompt_length + written - 1] = tokens
        ended = ends[tokens] | (written == self.limit)
        self._finish(ids, best, ended, written)
        self.scores, kept = (best + ended * NEVER).topk(width, dim=1)
        self.ids = gather(ids, kept)
        self._look_ahead(written, bool(ended.all()))
        sources = torch.arange(batch, device=tokens.device)[:, None] * width
        return (parents.gather(1, kept) + sources).flatten()

    def _finish(self, ids: Tensor, best: Tensor, ended: Tensor, written: int) -> None:
        full = self.finished.real.all(1, keepdim=True) & (self.search.early_stopping is True)
        among_the_best = torch.arange(best.size(1), device=best.device) < self.search.width
        real = ended & among_the_best
        barred = full | ~self.may_improve | ~real
        scores = best / written**self.search.length_penalty + barred * NEVER
        self.finished.offer(ids, scores, written, real)

    def _look_ahead(self, written: int, all_ended: bool) -> None:
        length = self.search.hypothetical_length(written, self.limit)
        hope = self.scores[:, :1] / length**self.search.length_penalty
        worst = self.finished.scores.min(1, keepdim=True).values
        worst = torch.where(self.finished.real, worst, NEVER)
        self.may_improve = self.may_improve & (hope > worst).any(1, keepdim=True)
        enough = bool(self.finished.real.all()) and self.search.early_stopping is True
        self.over = all_ended or enough or not bool(self.may_improve.any())


def widen(state: Decoding, width: int) -> None:
    """Give every source ``width`` rows."""
    rows = torch.arange(state.prompt.size(0), device=state.prompt.device)
    state.select(rows.repeat_interleave(width))
