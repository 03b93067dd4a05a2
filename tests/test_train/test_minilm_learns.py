"""A sentence encoder learns: gradients arrive, losses fall, evaluation stands still."""

import pytest
import torch
import torch.nn.functional as F

from miniformer.minilm import SentenceTransformer, cosine_similarity
from miniformer.minilm.folder import DenseSpec

PAIRS = 8


def tiny(**keywords):
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 50,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 16,
    }
    return SentenceTransformer(**(sizes | keywords))


def draw(seed):
    """Eight texts of 3 to 10 tokens, with their mask; no token is the padding's."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 11, (PAIRS, 1), generator=generator)
    mask = (torch.arange(10)[None] < lengths).long()
    return torch.randint(1, 50, mask.shape, generator=generator) * mask, mask


def contrastive_loss(model):
    """Each left text belongs to the right text of its own row, and to no other."""
    similarity = cosine_similarity(model(*draw(1)), model(*draw(2)))
    return F.cross_entropy(similarity / 0.05, torch.arange(PAIRS))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_gradients_reach_every_parameter_that_embeddings_use(pooling):
    model = tiny(pooling=pooling, dense=[DenseSpec(32, 12)])
    contrastive_loss(model).backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == {"model.pooler.dense.weight", "model.pooler.dense.bias"}
    # One number is added to every score of a query, and softmax does not see it.
    indifferent = "attention.self.key.bias"
    for name, parameter in model.named_parameters():
        if name not in without:
            assert parameter.grad.isfinite().all(), name
            assert name.endswith(indifferent) or parameter.grad.abs().max() > 1e-8, name


@pytest.mark.parametrize("attended", [False, True])
def test_the_padding_row_gets_no_gradient_and_the_words_that_occur_do(attended):
    model = tiny(dropout_rate=0.0)
    ids, mask = draw(1)
    if attended:
        ids[:, 1] = 0
        assert mask[:, 1].all()
    model(ids, mask)[:, 0].sum().backward()
    gradient = model.model.embeddings.word_embeddings.weight.grad
    assert (gradient[0] == 0).all()
    occurring = set(ids.flatten().tolist()) - {0}
    assert {row for row in range(50) if gradient[row].abs().sum() > 0} == occurring


def test_unused_positions_and_the_second_type_get_no_gradient():
    model = tiny(dropout_rate=0.0)
    contrastive_loss(model).backward()
    embeddings = model.model.embeddings
    assert (embeddings.position_embeddings.weight.grad[10:] == 0).all()
    assert (embeddings.position_embeddings.weight.grad[:3] != 0).any(1).all()
    assert (embeddings.token_type_embeddings.weight.grad[1] == 0).all()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_tiny_model_learns_a_handful_of_pairs_by_heart(pooling):
    model = tiny(pooling=pooling, dropout_rate=0.05).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    start = contrastive_loss(model).item()
    for _ in range(40):
        optimizer.zero_grad()
        contrastive_loss(model).backward()
        optimizer.step()
    with torch.no_grad():
        model.eval()
        similarity = cosine_similarity(model(*draw(1)), model(*draw(2)))
        assert start > 1
        assert contrastive_loss(model) < 0.05
        assert similarity.argmax(1).tolist() == list(range(PAIRS))


def test_evaluation_stands_still_and_training_with_dropout_does_not():
    model = tiny(dropout_rate=0.3)
    with torch.no_grad():
        model.eval()
        assert torch.equal(model(*draw(1)), model(*draw(1)))
        model.train()
        assert (model(*draw(1)) - model(*draw(1))).abs().max() > 1e-2


def test_training_without_dropout_equals_evaluation():
    model = tiny(dropout_rate=0.0)
    with torch.no_grad():
        trained = model.train()(*draw(1))
        assert torch.equal(model.eval()(*draw(1)), trained)


def test_dropout_reaches_attention_as_well_as_the_layers():
    model = tiny(dropout_rate=0.0)
    for layer in model.model.encoder.layer:
        layer.attention.self.dropout_rate = 0.5
    with torch.no_grad():
        noisy = [model.train()(*draw(1)) for _ in range(2)]
        still = [model.eval()(*draw(1)) for _ in range(2)]
    assert not torch.allclose(*noisy)
    assert torch.equal(*still)
