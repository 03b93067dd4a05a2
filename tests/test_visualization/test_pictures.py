from dataclasses import replace

import numpy as np
import pytest
import torch

from miniformer.config.model_config import TransformerConfig
from miniformer.model.seq2seq_transformer import Seq2SeqTransformer
from miniformer.model.transformer import Transformer
from miniformer.visualization import plot_attention, plot_training, visualize_embeddings

CONFIG = TransformerConfig(vocab_size=40, n_heads=4, n_layers=2)
WORDS = [f"word{i}" for i in range(12)]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Seq2SeqTransformer(CONFIG).eval()


def images(figure):
    return [axes.get_images()[0].get_array() for axes in figure.axes if axes.get_images()]


@pytest.mark.parametrize("kind", ["encoder", "decoder", "cross"])
def test_the_drawn_weights_are_the_models_whatever_the_backend(model, kind):
    src, tgt = torch.randint(3, 40, (2, 9)), torch.randint(3, 40, (2, 5))
    plain = Seq2SeqTransformer(replace(CONFIG, use_sdpa=False)).eval()
    plain.load_state_dict(model.state_dict())
    expected = model.get_attention_weights(src, tgt)[kind][1][1]
    for each in (model, plain):
        drawn = images(plot_attention(each, src, tgt, kind=kind, row_index=1))
        assert len(drawn) == 4
        for one, two in zip(drawn, expected, strict=True):
            np.testing.assert_allclose(one, two, atol=1e-6)
    [alone] = images(plot_attention(model, src, tgt, kind=kind, layer=1, head=2, row_index=1))
    np.testing.assert_allclose(alone, expected[2])


def test_labels_are_the_tokens(model, tmp_path):
    ids = torch.randint(3, 40, (1, 12))
    plot_attention(model, ids, head=0, tokens=[f"${w}$" for w in WORDS], path=tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert all(text.count(f"${word}$") == 2 for word in WORDS)
    assert "encoder attention, layer 1" in text


def test_a_picture_is_written_in_colour(model, tmp_path):
    from matplotlib.image import imread

    transformer = Transformer(CONFIG).eval()
    plot_attention(transformer, torch.randint(3, 40, (1, 12)), path=tmp_path / "a.png")
    pixels = imread(tmp_path / "a.png")
    assert min(pixels.shape[:2]) > 300
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 50


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": 2}, "layer 2 does not exist: the model has 2"),
        ({"head": 4}, "head 4 does not exist: the layer has 4"),
        ({"kind": "cross"}, "cross attention needs target_ids"),
        ({"kind": "sideways", "target_ids": torch.ones(1, 2).long()}, "known: encoder, decoder"),
        ({"tokens": ["a"]}, "tokens has 1 labels for 6 positions"),
        ({"path": "picture.bmp"}, "unknown picture format; known: .png"),
    ],
)
def test_what_cannot_be_drawn_is_named(model, settings, message):
    with pytest.raises(ValueError, match=message):
        plot_attention(model, torch.randint(3, 40, (1, 6)), **settings)


def points(figure):
    return np.asarray(figure.axes[0].collections[0].get_offsets())


def test_principal_components_are_numpys(model):
    figure = visualize_embeddings(model, WORDS)
    rows = model.token_embedding.weight.detach().numpy()[:12].astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    expected = (rows - rows.mean(0)) @ vectors[:, :-3:-1]
    np.testing.assert_allclose(np.abs(points(figure)), np.abs(expected), atol=1e-5)
    share = values[-1] / values.sum()
    assert f"({share:.0%} of variance)" in figure.axes[0].get_xlabel()
    assert {text.get_text() for text in figure.axes[0].texts} == set(WORDS)


def test_tsne_keeps_clusters_together(model):
    with torch.no_grad():
        table = torch.randn(40, 64) * 0.01
        table[:20] += 5
    clustered = Transformer(CONFIG)
    clustered.token_embedding.weight.data.copy_(table)
    places = points(visualize_embeddings(clustered, {f"w{i}": i for i in range(40)}, "tsne"))
    middles = places[:20].mean(0), places[20:].mean(0)
    widths = [places[part].std() for part in (slice(20), slice(20, 40))]
    assert np.linalg.norm(middles[0] - middles[1]) > max(widths)


@pytest.mark.parametrize(
    ("vocab", "method", "message"),
    [
        (WORDS, "umap", "unknown method 'umap'; known: pca, tsne"),
        (WORDS[:3], "pca", "at least 4 words, got 3"),
        ({**dict(zip(WORDS, range(12), strict=True)), "x": 40}, "pca", "'x' has an id outside"),
    ],
)
def test_words_that_cannot_be_drawn_are_named(model, vocab, method, message):
    with pytest.raises(ValueError, match=message):
        visualize_embeddings(model, vocab, method)


LOG = """epoch,lr-AdamW,step,train_loss,val_loss
0,0.001,9,2.5,
0,,19,,2.75
1,0.0001,29,1.5,
1,,39,nan,2.25
"""


def test_curves_of_a_csv_log(tmp_path):
    for version, text in ((2, "step,train_loss\n4,3\n9,7\n"), (10, LOG)):
        (tmp_path / f"version_{version}").mkdir()
        (tmp_path / f"version_{version}/metrics.csv").write_text(text)
    figure = plot_training(tmp_path, path=tmp_path / "curves.png")
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    assert set(panels) == {"lr-AdamW", "loss"}
    lines = {line.get_label(): line.get_xydata().tolist() for line in panels["loss"].lines}
    assert lines == {
        "train_loss": [[4, 3], [9, 2.5], [29, 1.5]],
        "val_loss": [[19, 2.75], [39, 2.25]],
    }
    assert panels["lr-AdamW"].get_yscale() == "log"
    assert panels["loss"].get_xlabel() == "step"
    assert (tmp_path / "curves.png").stat().st_size > 5_000


def test_a_folder_without_a_log_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no metrics\.csv"):
        plot_training(tmp_path)
    (tmp_path / "metrics.csv").write_text("step,epoch\n1,2\n")
    with pytest.raises(ValueError, match="holds no metrics"):
        plot_training(tmp_path)


def test_without_matplotlib_the_remedy_is_named(monkeypatch, model):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'miniformer-retrieval\[viz\]'"):
        plot_attention(model, torch.randint(3, 40, (1, 6)))
