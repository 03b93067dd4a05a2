"""A model's token embeddings in two dimensions."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from miniformer.model.seq2seq_transformer import Seq2SeqTransformer
from miniformer.model.tables import row
from miniformer.model.transformer import Transformer
from miniformer.visualization.figures import new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELLED = 150  # more labels than this cannot be read


def principal_components(rows: Tensor) -> tuple[Tensor, tuple[str, str]]:
    """The two directions of greatest variance: places [N, 2], and the names of the axes."""
    centred = rows - rows.mean(0)
    left, spread, _ = torch.linalg.svd(centred, full_matrices=False)
    shares = (spread**2 / (spread**2).sum().clamp(min=1e-12))[:2]
    names = [f"component {i + 1} ({share:.0%} of variance)" for i, share in enumerate(shares)]
    return left[:, :2] * spread[:2], (names[0], names[1])


def neighbour_embedding(rows: Tensor) -> tuple[Tensor, tuple[str, str]]:
    """t-SNE (van der Maaten and Hinton 2008): near rows near each other. Needs scikit-learn."""
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ImportError(
            "t-SNE needs scikit-learn: pip install 'miniformer-retrieval[viz]'"
        ) from error
    perplexity = min(30.0, (len(rows) - 1) / 3)
    made = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(rows.numpy())
    return torch.from_numpy(made), ("t-SNE 1", "t-SNE 2")


METHODS: dict[str, Callable[[Tensor], tuple[Tensor, tuple[str, str]]]] = {
    "pca": principal_components,
    "tsne": neighbour_embedding,
}


def visualize_embeddings(
    model: Transformer | Seq2SeqTransformer,
    vocab: Sequence[str] | Mapping[str, int],
    method: str = "pca",
    *,
    path: str | Path | None = None,
) -> "Figure":
    """Scatter the embeddings of ``vocab``: words by id (the n-th word has id n), or word → id.

    ``method`` is ``pca`` or ``tsne``. Up to 150 points carry their word. ValueError for an unknown
    method, fewer than four words, or an id that the model does not have; ImportError without
    matplotlib or, for t-SNE, scikit-learn.
    """
    project = row(METHODS, method, "method")
    ids = dict(vocab) if isinstance(vocab, Mapping) else {w: i for i, w in enumerate(vocab)}
    table = model.token_embedding.weight.detach().float().cpu()
    if len(ids) < 4:
        raise ValueError(f"a picture needs at least 4 words, got {len(ids)}")
    outside = [word for word, token in ids.items() if not 0 <= token < len(table)]
    if outside:
        raise ValueError(f"{outside[0]!r} has an id outside the vocabulary of {len(table)}")
    places, names = project(table[list(ids.values())])
    figure = new_figure(9, 7)
    axes: Any = figure.subplots()
    axes.scatter(places[:, 0], places[:, 1], s=14, alpha=0.7)
    axes.margins(0.12)  # the words stand to the right of their points
    if len(ids) <= LABELLED:
        for word, place in zip(ids, places.tolist(), strict=True):
            text = word.replace("$", r"\$")
            axes.annotate(text, place, xytext=(3, 3), textcoords="offset points", fontsize=8)
    axes.set(xlabel=names[0], ylabel=names[1], title=f"{len(ids)} token embeddings, {method}")
    axes.grid(alpha=0.2)
    return save(figure, path)
