"""Write a sentence encoder as a folder that sentence-transformers opens too."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from safetensors.torch import save_file
from torch import Tensor, nn

from miniformer.minilm.folder import POOLING_FLAGS, SentenceSpec
from miniformer.minilm.mini_lm_model import Dense, SentenceTransformer

TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"),
    "added_tokens.json",
)
FLAG_OF_POOLING = {pooling: flag for flag, pooling in POOLING_FLAGS.items()}


def save_sentence_transformer(
    model: SentenceTransformer, spec: SentenceSpec, tokenizer_from: Path, folder: Path
) -> None:
    """Write weights, tokenizer and modules; every file is replaced whole, config.json the last.

    ``spec`` is that of the folder the model came from: its prompts and the parts of its body that
    the model does not know are kept. The tokenizer's files are copied from ``tokenizer_from``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    modules = ["Transformer", "Pooling", *["Dense"] * len(model.dense)]
    modules += ["Normalize"] * model.normalize
    paths = ["", *(f"{number}_{kind}" for number, kind in enumerate(modules[1:], start=1))]
    for path, dense in zip(paths[2:], model.dense, strict=False):
        _write_dense(cast(Dense, dense), folder / path)
    write_tensors(folder, model.model)
    for name in TOKENIZER_FILES:
        if (tokenizer_from / name).is_file() and tokenizer_from.resolve() != folder.resolve():
            shutil.copyfile(tokenizer_from / name, folder / name)
    width = spec.body["hidden_size"]
    pooling = {"word_embedding_dimension": width, FLAG_OF_POOLING[model.pooling]: True}
    write_json(folder / "1_Pooling/config.json", pooling)
    settings = {"max_seq_length": model.model.max_length, "do_lower_case": spec.do_lower_case}
    write_json(folder / "sentence_bert_config.json", settings)
    prompts = {
        "prompts": dict(spec.prompts),
        "default_prompt_name": spec.default_prompt,
        "similarity_fn_name": "cosine",
    }
    write_json(folder / "config_sentence_transformers.json", prompts)
    listed = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (kind, path) in enumerate(zip(modules, paths, strict=True))
    ]
    write_json(folder / "modules.json", listed)
    layers = len(model.model.encoder.layer)
    write_json(folder / "config.json", {**spec.body, "num_hidden_layers": layers})


def _write_dense(dense: Dense, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    described = {
        "in_features": dense.spec.in_features,
        "out_features": dense.spec.out_features,
        "bias": dense.spec.bias,
        "activation_function": f"torch.nn.modules.activation.{dense.spec.activation}",
    }
    write_tensors(folder, dense)
    write_json(folder / "config.json", described)


def write_tensors(folder: Path, module: nn.Module) -> None:
    """Replace ``model.safetensors`` of a folder by the module's tensors, in float32."""
    tensors: Mapping[str, Tensor] = {
        name: tensor.detach().float().cpu().contiguous()
        for name, tensor in module.state_dict().items()
    }
    fresh = folder / "model.safetensors.new"
    save_file(dict(tensors), fresh, metadata={"format": "pt"})
    os.replace(fresh, folder / "model.safetensors")


def write_json(path: Path, content: Any) -> None:
    """Replace a file of a folder, which is made where it is missing, in one step."""
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(fresh, path)
