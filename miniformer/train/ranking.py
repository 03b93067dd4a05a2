"""What a reranker is taught: losses over the scores of a question's passages."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

# Scores [B, 1 + n], in column 0 those of the passages that answer, to a scalar.
RankingLoss = Callable[[Tensor], Tensor]


def localized_contrastive(scores: Tensor) -> Tensor:
    """The passage that answers against the negatives of its own question (LCE; Gao, Dai & Callan
    2021, arXiv:2101.08751): cross-entropy over each row.
    """
    right = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
    return F.cross_entropy(scores, right)


def binary(scores: Tensor) -> Tensor:
    """Every pair for itself (Nogueira & Cho 2019, arXiv:1901.04085): binary cross-entropy, with the
    passage that answers as heavy as all of its negatives.
    """
    negatives = scores.size(1) - 1
    labels = torch.zeros_like(scores)
    labels[:, 0] = 1
    heavier = scores.new_tensor(float(negatives))
    return F.binary_cross_entropy_with_logits(scores, labels, pos_weight=heavier)


RANKING_LOSSES: Mapping[str, RankingLoss] = {"lce": localized_contrastive, "bce": binary}


def reciprocal_rank(scores: Tensor) -> Tensor:
    """The mean over the rows of 1 / rank of column 0; of equal scores it is the last."""
    ranks = (scores[:, 1:] >= scores[:, :1]).sum(dim=1) + 1
    return (1 / ranks).mean()
