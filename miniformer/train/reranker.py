"""Train a reranker: the one call behind ``retrieval train reranker``."""

from collections.abc import Sequence
from pathlib import Path

from miniformer.minilm.pair_tokenizer import PairTokenizer
from miniformer.train.encoder import Mine
from miniformer.train.pairs import Example
from miniformer.train.ranking import RankingLoss
from miniformer.train.reranker_config import RerankerConfig
from miniformer.train.reranker_data import RerankerData
from miniformer.train.reranker_module import RerankerLitModule
from miniformer.train.runner import Run, fit


def train_reranker(
    config: RerankerConfig, *, mine: Mine | None = None, loss: RankingLoss | None = None
) -> dict[str, float]:
    """Train and leave the best model in ``config.output``, as sentence-transformers opens it too.

    ``mine`` finds negatives once, with the encoder ``config.miner``, where the file has too few;
    what is lacking then is drawn from the passages of other questions. ``loss`` is one of one's
    own. Logs, curves, results and checkpoints lie in ``training/`` inside the output. Errors are
    those of :func:`~miniformer.train.encoder.train_encoder`.
    """
    output = Path(config.output)
    run = Run(config, output / "training", output, output.name)
    run.check_output()
    data = RerankerData(config)
    module = RerankerLitModule(config, loss)
    data.tokenizer = PairTokenizer(
        str(module.folder), module.model.bert.max_length, lower_case=module.spec.do_lower_case
    )
    brought = min(len(example.texts) for example in data.examples) - 2
    if mine is not None and config.miner and brought < config.negatives:
        found = mine(Path(config.miner), data.examples, config.negatives)
        data.examples = with_mined(data.examples, found, config.negatives)
    metric = config.checkpoint_metric or ("val_loss" if data.validation else "")
    return fit(run, module, data, module.export, metric=metric)


def with_mined(examples: Sequence[Example], mined: Sequence[Example], count: int) -> list[Example]:
    """Examples with the negatives they bring, then mined ones, ``count`` in all."""
    return [
        Example((*own.texts[:2], *dict.fromkeys(own.texts[2:] + found.texts[2:]))[: 2 + count])
        for own, found in zip(examples, mined, strict=True)
    ]
