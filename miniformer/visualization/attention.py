"""Who looks at whom: attention weights as heat maps."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from miniformer.model.seq2seq_transformer import Seq2SeqTransformer
from miniformer.model.tables import row
from miniformer.model.transformer import Transformer
from miniformer.visualization.figures import new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 4
CHARACTER = 0.09  # inches that a letter of a label takes
MOST_LABELS = 64


def plot_attention(
    model: Transformer | Seq2SeqTransformer,
    input_ids: Tensor,
    target_ids: Tensor | None = None,
    *,
    kind: str = "encoder",
    layer: int = -1,
    head: int | None = None,
    row_index: int = 0,
    tokens: Sequence[str] | None = None,
    target_tokens: Sequence[str] | None = None,
    path: str | Path | None = None,
) -> "Figure":
    """Draw the weights of one layer for one row of ``input_ids`` [B, S]; all heads unless ``head``.

    ``kind`` is ``encoder``, and for a sequence-to-sequence model, with ``target_ids`` [B, T], also
    ``decoder`` or ``cross``. ``tokens`` and ``target_tokens`` label the axes in place of the ids.
    Works the same whatever the backend computes. ValueError for a layer, head, kind or number of
    labels that the model or the row does not have; ImportError without matplotlib.
    """
    weights = _weights(model, input_ids, target_ids, kind)
    if not -len(weights) <= layer < len(weights):
        raise ValueError(f"layer {layer} does not exist: the model has {len(weights)}")
    chosen = weights[layer][row_index].float().cpu()  # [H, L, S]
    heads = list(range(len(chosen))) if head is None else [head]
    if not 0 <= heads[0] < len(chosen):
        raise ValueError(f"head {head} does not exist: the layer has {len(chosen)}")
    source = _labels(tokens, input_ids[row_index], "tokens")
    target = _labels(
        target_tokens,
        (target_ids if target_ids is not None else input_ids)[row_index],
        "target_tokens",
    )
    queries = source if kind == "encoder" else target
    keys = target if kind == "decoder" else source
    figure = _draw(chosen, heads, queries, keys)
    number = layer % len(weights)
    figure.suptitle(f"{kind} attention, layer {number}: each row is a query and sums to 1")
    return save(figure, path)


def _weights(
    model: Transformer | Seq2SeqTransformer, source: Tensor, target: Tensor | None, kind: str
) -> list[Any]:
    if isinstance(model, Transformer):
        return row({"encoder": model.get_attention_weights}, kind, "kind of attention")(source)
    if target is None and kind != "encoder":
        raise ValueError(f"{kind} attention needs target_ids")
    written = source[:, :1] if target is None else target
    return row(model.get_attention_weights(source, written), kind, "kind of attention")


def _labels(given: Sequence[str] | None, ids: Tensor, what: str) -> list[str]:
    labels = [str(token) for token in ids.tolist()] if given is None else list(given)
    if len(labels) != len(ids):
        raise ValueError(f"{what} has {len(labels)} labels for {len(ids)} positions")
    return labels


def _draw(
    weights: Tensor, heads: Sequence[int], queries: Sequence[str], keys: Sequence[str]
) -> "Figure":
    columns = min(COLUMNS, len(heads))
    rows = math.ceil(len(heads) / columns)
    margin_x = CHARACTER * max(map(len, queries))
    margin_y = CHARACTER * max(map(len, keys))
    cell = 0.2 if len(heads) > 1 else 0.32
    width = columns * (max(1.6, cell * len(keys)) + margin_x + 0.3) + 1.2
    height = rows * (max(1.6, cell * len(queries)) + margin_y + 0.6) + 0.6
    figure = new_figure(width, height)
    grid = figure.subplots(rows, columns, squeeze=False)
    top = float(weights[list(heads)].max())
    for place, axes in enumerate(grid.flat):
        if place >= len(heads):
            axes.set_axis_off()
            continue
        image = axes.imshow(weights[heads[place]].numpy(), vmin=0.0, vmax=top, cmap="viridis")
        axes.set_title(f"head {heads[place]}", fontsize=9)
        _ticks(axes.xaxis, keys)
        _ticks(axes.yaxis, queries)
        axes.tick_params(axis="x", rotation=90)
        axes.tick_params(labelsize=7)
        if place % columns == 0:
            axes.set_ylabel("query", fontsize=8)
        if place // columns == rows - 1:
            axes.set_xlabel("key", fontsize=8)
    figure.colorbar(image, ax=list(grid.flat), label="weight", shrink=0.8)
    return figure


def _ticks(axis: Any, labels: Sequence[str]) -> None:
    """A label a position, or every n-th where there are too many to read."""
    step = math.ceil(len(labels) / MOST_LABELS)
    axis.set_ticks(range(0, len(labels), step), labels=[_plain(t) for t in labels[::step]])


def _plain(label: str) -> str:
    """Matplotlib takes text between two dollar signs for a formula."""
    return label.replace("$", r"\$")
