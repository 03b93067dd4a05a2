"""Which of Lightning's advice is not shown: what it warns of is meant so."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

NOT_NEWS = (
    r".*does not have many workers",
    r".*Checkpoint directory .* exists and is not empty",
    r".*The number of training batches",
    r".*GPU available but not used",
    r".*AMP with fp16 is not supported on CPU",
    r".*Experiment logs directory",
    r".*treespec, LeafSpec",
    r".*in eval mode at the start of training",
    r".*will create \d+ worker processes",
    r".*Be aware that when using `ckpt_path`, callbacks",  # one may resume without --eval
    r".*and your dataloader is not resumable",  # its batches are: they know where the run stands
    r".*Total length of `list` across ranks is zero",
)


@contextmanager
def quieted() -> Iterator[None]:
    """Without Lightning's advice on things that are as they are meant."""
    talking = logging.getLogger("lightning.pytorch"), logging.getLogger("lightning.fabric")
    levels = [each.level for each in talking]
    for each in talking:
        each.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in NOT_NEWS:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for each, level in zip(talking, levels, strict=True):
            each.setLevel(level)
