"""The encoder on a device: batches of like length, padded."""

from itertools import chain

import numpy as np
import pytest
import torch

from miniformer.minilm import SentenceTransformer
from miniformer.minilm.padded_inference import PaddedSentenceTransformer, token_batches


@pytest.mark.parametrize("lengths", [[], [5], [3, 900, 1, 40, 40, 2], list(range(200)), [0, 0, 1]])
@pytest.mark.parametrize("budget", [1, 64, 1_000])
def test_token_batches_hold_every_text_once_within_the_budget(lengths, budget):
    batches = list(token_batches(lengths, budget))
    assert sorted(chain(*batches)) == list(range(len(lengths)))
    widths = [max(lengths[position] for position in batch) for batch in batches]
    assert all(
        len(batch) == 1 or len(batch) * width <= budget
        for batch, width in zip(batches, widths, strict=True)
    )
    assert widths == sorted(widths, reverse=True)


def test_token_batches_are_full():
    assert [len(batch) for batch in token_batches([4] * 10, 12)] == [3, 3, 3, 1]


@pytest.fixture(scope="module")
def model(wheel):
    return SentenceTransformer.from_pretrained(str(wheel))


ROWS = [[101, *range(2_000, 2_000 + length), 102] for length in (3, 50, 7, 3, 11, 60)]


def test_it_is_the_readable_model_however_long_the_texts(model):
    padded = PaddedSentenceTransformer(model, torch.float32, torch.device("cpu"))
    with torch.inference_mode():
        alone = [model(torch.tensor([row]), torch.ones(1, len(row)).bool())[0] for row in ROWS]
    np.testing.assert_allclose(padded(ROWS), torch.stack(alone).numpy(), atol=1e-5)


def test_alone_a_text_has_the_same_bits_in_any_company(model):
    device = torch.device("cpu")
    padded = PaddedSentenceTransformer(model, torch.float32, device, deterministic=True)
    assert [len(batch) for batch in padded.batches([4] * 3)] == [1, 1, 1]
    together = padded(ROWS)
    for row, vector in zip(ROWS, together, strict=True):
        np.testing.assert_array_equal(padded([row])[0], vector)
