"""The tokenizer of a run: one that is there, or one trained on the run's own texts."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from miniformer.weights import find_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# In the order of their ids, as TransformerConfig has them.
SPECIAL = {
    "pad_token": "<pad>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}


def open_tokenizer(name: str) -> "PreTrainedTokenizerBase":
    """The tokenizer of a folder or of a model that is found by name; no network is asked unless
    :func:`~miniformer.weights.find_model` does. FileNotFoundError when there is none.
    """
    from transformers import AutoTokenizer

    folder = find_model(name).path
    if not any((folder / file).is_file() for file in ("tokenizer.json", "vocab.txt")):
        raise FileNotFoundError(f"{folder} holds no tokenizer.json; name a tokenizer, or train one")
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(folder))
    # The length is the run's; a tokenizer's own limit would only warn.
    tokenizer.model_max_length = int(1e9)
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> "PreTrainedTokenizerBase":
    """A byte-level BPE (Sennrich et al. 2016, Radford et al. 2019), at most ``vocab_size`` tokens.

    Every text begins with ``<s>``; nothing is unknown to it. ValueError when ``vocab_size`` has no
    room for the bytes.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    least = len(alphabet) + len(SPECIAL)
    if vocab_size < least:
        raise ValueError(f"vocab_size {vocab_size} is less than the {least} of bytes and marks")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    bos = SPECIAL["bos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, **SPECIAL
    )


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a record, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from texts_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from texts_in(each)


def special_ids(tokenizer: Any) -> dict[str, int]:
    """The ids that a model must know, under the names of its configuration."""
    bos = first(tokenizer.bos_token_id, tokenizer.cls_token_id, tokenizer.pad_token_id)
    eos = first(tokenizer.eos_token_id, tokenizer.sep_token_id)
    pad = first(tokenizer.pad_token_id, eos)
    if eos is None or bos is None:
        raise ValueError("the tokenizer has no token that ends a text (eos or sep)")
    return {"pad_token_id": pad, "bos_token_id": bos, "eos_token_id": eos}


def first(*ids: int | None) -> Any:
    """The first id that there is."""
    return next((each for each in ids if each is not None), None)
