import math

import pytest
import torch

from miniformer.model.feedforward import ACTIVATIONS, activation

POINTS = [-6.0, -3.0, -1.0, -0.5, 0.0, 0.25, 1.0, 2.0, 5.0]


def exact_gelu(x):
    return x / 2 * (1 + math.erf(x / math.sqrt(2)))


def tanh_gelu(x):
    return x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


FORMULAS = {
    "gelu": exact_gelu,
    "gelu_new": tanh_gelu,
    "relu": lambda x: max(x, 0.0),
    "silu": lambda x: x / (1 + math.exp(-x)),
}


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_an_activation_follows_its_formula(name):
    points = torch.tensor(POINTS, dtype=torch.float64)
    expected = torch.tensor([FORMULAS[name](x) for x in POINTS], dtype=torch.float64)
    torch.testing.assert_close(activation(name)(points), expected, atol=1e-12, rtol=0)


def test_every_known_activation_has_a_formula_here():
    assert set(ACTIVATIONS) == set(FORMULAS)


def test_gelu_of_one_is_the_normal_distribution_at_one():
    # Φ(1) = 0.841344746…; the tanh form gives 0.841191990….
    one = torch.tensor(1.0, dtype=torch.float64)
    assert activation("gelu")(one).item() == pytest.approx(0.8413447460685429, abs=1e-15)
    assert activation("gelu_new")(one).item() == pytest.approx(0.8411919906082768, abs=1e-15)


@pytest.mark.parametrize("name", ["mish", "GELU", ""])
def test_an_unknown_activation_lists_the_known_ones(name):
    with pytest.raises(ValueError, match="unknown activation") as caught:
        activation(name)
    assert repr(name) in str(caught.value)
    assert all(known in str(caught.value) for known in ACTIVATIONS)
