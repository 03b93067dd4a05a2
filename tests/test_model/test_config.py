import dataclasses
import json

import pytest

from miniformer.config import BASE_CONFIG, SMALL_CONFIG, TINY_CONFIG, TransformerConfig


def test_the_documented_defaults():
    config = TransformerConfig()
    assert (config.vocab_size, config.d_model, config.n_heads) == (10_000, 64, 4)
    assert (config.n_layers, config.d_ff, config.dropout) == (3, 256, 0.1)
    assert (config.activation, config.layer_norm_eps, config.max_seq_len) == ("gelu", 1e-5, 1024)
    assert (config.input_dim, config.output_dim, config.pre_norm) == (None, None, True)
    assert (config.rotary_pct, config.initializer_range) == (0.0, 0.02)
    assert config.position_kind == "learned"
    assert dataclasses.replace(config, rotary_pct=0.25).position_kind == "rotary"


@pytest.mark.parametrize("config", [TINY_CONFIG, SMALL_CONFIG, BASE_CONFIG])
def test_json_in_and_out(config, tmp_path):
    changed = dataclasses.replace(config, encoder={"n_layers": 1}, output_dim=3)
    changed.save_json(tmp_path / "config.json")
    assert TransformerConfig.from_json(tmp_path / "config.json") == changed
    assert TransformerConfig.from_dict(changed.to_dict()) == changed


def test_a_half_takes_its_own_overrides():
    config = TransformerConfig(encoder={"n_layers": 5}, decoder={"n_heads": 2, "pre_norm": False})
    assert config.half("encoder").n_layers == 5
    assert config.half("encoder").n_heads == 4
    assert (config.half("decoder").n_heads, config.half("decoder").pre_norm) == (2, False)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"d_model": 65}, "d_model 65 is not divisible by n_heads 4"),
        ({"n_kv_heads": 3}, "n_heads 4 is not divisible by n_kv_heads 3"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"rotary_pct": 1.5}, "rotary_pct must be in"),
        ({"rotary_pct": 0.5, "position": "learned"}, "asks for rotary positions"),
        ({"n_layers": 0}, "n_layers must be a whole number of at least 1: 0"),
        ({"vocab_size": 2.0}, "vocab_size must be a whole number"),
        ({"pad_token_id": 10_000}, "pad_token_id 10000 is not an id of vocab_size 10000"),
        ({"layer_norm_eps": 0}, "above 0"),
        ({"encoder": {"n_layer": 1}}, "'n_layer' .did you mean 'n_layers'"),
        ({"decoder": {"d_model": 8}}, "cannot override d_model"),
        ({"decoder": {"n_heads": 5}}, "d_model 64 is not divisible by n_heads 5"),
    ],
)
def test_what_does_not_fit_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**fields)


def test_all_unknown_keys_are_listed_at_once(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"d_modle": 8, "colour": "red", "n_heads": 2}))
    with pytest.raises(ValueError, match=r"'colour', 'd_modle' \(did you mean 'd_model'\?\)") as e:
        TransformerConfig.from_json(path)
    assert str(path) in str(e.value)


@pytest.mark.parametrize(("text", "message"), [("{", "not valid JSON"), ("[1]", "JSON object")])
def test_a_damaged_file_is_named(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        TransformerConfig.from_json(tmp_path / "config.json")
    with pytest.raises(FileNotFoundError, match="no model configuration"):
        TransformerConfig.from_json(tmp_path / "absent.json")


def test_an_unknown_feed_forward_of_t5_lists_the_known():
    with pytest.raises(ValueError, match=r"gated-quick.*known: relu"):
        TransformerConfig.t5({"feed_forward_proj": "gated-quick"})
