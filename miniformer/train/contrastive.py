"""What a sentence encoder is taught: losses over the embeddings of a batch."""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class Embedded:
    """A batch as a loss sees it.

    ``columns`` are the unit embeddings of every column, [C, B, dim]: query, positive, negatives; or
    the two sentences; or one text. ``texts`` int64 [C, B] tells equal texts by equal numbers;
    ``scores`` [B] are the labels of scored pairs; ``targets`` [C, B, dim] what a teacher gives.
    """

    columns: Tensor
    texts: Tensor
    scores: Tensor | None = None
    targets: Tensor | None = None


Loss = Callable[[Embedded], Tensor]


@dataclass(frozen=True)
class InBatchNegatives:
    """The query's positive against all other positives and negatives of the batch (InfoNCE; van den
    Oord et al. 2018, Henderson et al. 2017): cross-entropy of cosine / temperature.

    ``symmetric`` also asks each positive for its query. A candidate with the text of the row's
    positive or query is no negative, nor, with ``margin``, one more similar to the query than
    ``margin`` times the positive (likely a positive that nobody marked).
    """

    temperature: float = 0.05
    symmetric: bool = False
    margin: float = 0.0

    def __call__(self, batch: Embedded) -> Tensor:
        """The mean over the batch, a scalar."""
        queries, candidates = batch.columns[0], batch.columns[1:].flatten(0, 1)  # [B, D], [M, D]
        loss = self._one_way(queries, candidates, batch.texts[:2].T, batch.texts[1:].flatten())
        if self.symmetric:
            known = batch.texts[:2].T
            loss = (loss + self._one_way(batch.columns[1], queries, known, batch.texts[0])) / 2
        return loss

    def _one_way(self, queries: Tensor, candidates: Tensor, known: Tensor, texts: Tensor) -> Tensor:
        """``known`` [B, 2] are the texts of each row, ``texts`` [M] those of the candidates."""
        similar = queries @ candidates.T  # [B, M]
        right = torch.arange(queries.size(0), device=queries.device)
        left_out = (texts[None, None] == known[..., None]).any(dim=1)
        if self.margin:
            left_out |= similar > self.margin * similar[right, right][:, None]
        left_out[right, right] = False
        scores = (similar / self.temperature).masked_fill(left_out, float("-inf"))
        return F.cross_entropy(scores, right)


@dataclass(frozen=True)
class CoSENT:
    """Order scored pairs by cosine: log(1 + Σ exp(scale · (cos_j − cos_i))) over all pairs i, j of
    the batch with score_i > score_j (Su 2022).
    """

    scale: float = 20.0

    def __call__(self, batch: Embedded) -> Tensor:
        """One number for the batch, a scalar."""
        cosines = self.scale * (batch.columns[0] * batch.columns[1]).sum(dim=-1)  # [B]
        scores = scores_of(batch)
        too_high = cosines[None] - cosines[:, None]  # [i, j]: how far j stands above i
        ordered = scores[:, None] > scores[None]
        wrong = torch.cat([cosines.new_zeros(1), too_high[ordered]])
        return wrong.logsumexp(dim=0)


def cosine_error(batch: Embedded) -> Tensor:
    """Mean squared difference of cosine and score; scores must be cosines, −1 … 1."""
    scores = scores_of(batch)
    if scores.abs().max() > 1:
        worst = float(scores.abs().max())
        raise ValueError(f"scores must be in -1 … 1 for a loss on cosines; found {worst:g}")
    return F.mse_loss((batch.columns[0] * batch.columns[1]).sum(dim=-1), scores)


@dataclass(frozen=True)
class Triplet:
    """The positive nearer than the negative by a margin of cosine (Schroff et al. 2015)."""

    margin: float = 0.2

    def __call__(self, batch: Embedded) -> Tensor:
        """The mean over the batch, a scalar."""
        positive, negative = ((batch.columns[0] * other).sum(dim=-1) for other in batch.columns[1:])
        return F.relu(self.margin - positive + negative).mean()


def distillation(batch: Embedded) -> Tensor:
    """Be where the teacher is: the mean squared distance of unit embeddings, 2 − 2 cosine."""
    return (batch.columns - targets_of(batch)).square().sum(dim=-1).mean()


def margin_distillation(batch: Embedded) -> Tensor:
    """Tell positive from negatives as far as the teacher does (Hofstätter et al. 2020): the mean
    squared difference of cosine(query, positive) − cosine(query, negative).
    """
    ours, theirs = (
        (columns[:1] * (columns[1:2] - columns[2:])).sum(dim=-1)
        for columns in (batch.columns, targets_of(batch))
    )
    return F.mse_loss(ours, theirs)


@dataclass(frozen=True)
class Matryoshka:
    """A loss at several widths (Kusupati et al. 2022): the mean over the first ``dims`` components,
    each cut made unit length again.
    """

    loss: Loss
    dims: Sequence[int]

    def __call__(self, batch: Embedded) -> Tensor:
        """The mean over the widths, a scalar."""
        losses = [self.loss(self._cut(batch, dim)) for dim in self.dims]
        return torch.stack(losses).mean()

    def _cut(self, batch: Embedded, dim: int) -> Embedded:
        targets = batch.targets
        if targets is not None:
            targets = F.normalize(targets[..., :dim], dim=-1)
        columns = F.normalize(batch.columns[..., :dim], dim=-1)
        return Embedded(columns, batch.texts, batch.scores, targets)


@dataclass(frozen=True)
class LossKind:
    """A row of :data:`LOSSES`: how many columns a loss reads, whether scores or a teacher, and how
    it is made from the options that it knows.
    """

    make: Callable[..., Loss]
    options: tuple[str, ...] = ()
    columns: tuple[int, int] = (2, 1 << 30)  # at least, at most
    scored: bool = False
    taught: bool = False


LOSSES: MutableMapping[str, LossKind] = {
    "mnrl": LossKind(InBatchNegatives, ("temperature", "symmetric", "margin")),
    "cosent": LossKind(CoSENT, columns=(2, 2), scored=True),
    "cosine": LossKind(lambda: cosine_error, columns=(2, 2), scored=True),
    "triplet": LossKind(Triplet, ("margin",), columns=(3, 3)),
    "distill": LossKind(lambda: distillation, columns=(1, 1 << 30), taught=True),
    "margin": LossKind(lambda: margin_distillation, columns=(3, 1 << 30), taught=True),
}


def scores_of(batch: Embedded) -> Tensor:
    """The labels [B] of scored pairs; ValueError where there are none."""
    if batch.scores is None:
        raise ValueError("this loss needs a score for every pair")
    return batch.scores


def targets_of(batch: Embedded) -> Tensor:
    """The teacher's embeddings; ValueError where there are none or they are of another width."""
    if batch.targets is None:
        raise ValueError("this loss needs a teacher")
    if batch.targets.shape != batch.columns.shape:
        ours, theirs = batch.columns.size(-1), batch.targets.size(-1)
        raise ValueError(f"the teacher's embeddings have {theirs} components, the student's {ours}")
    return batch.targets


def make_loss(kind: LossKind, options: Mapping[str, Any], dims: Sequence[int] = ()) -> Loss:
    """Build a loss from the options that it knows, at several widths where ``dims`` are given."""
    given = {n: options[n] for n in kind.options if options.get(n) is not None}
    loss = kind.make(**given)
    return Matryoshka(loss, dims) if dims else loss
