"""What the training of a reranker is told."""

from dataclasses import dataclass, field

from miniformer.train.ranking import RANKING_LOSSES
from miniformer.train.run_config import RunConfig, option


@dataclass
class RerankerConfig(RunConfig):
    """Train a cross-encoder to tell passages that answer a question from those that do not."""

    train_path: list[str] = field(
        default_factory=list, metadata={"help": "files of records: JSON lines or Parquet"}
    )
    val_path: str = option("", "file of records whose loss and MRR are measured every epoch")
    output: str = option("", "folder of the trained reranker")
    base: str = option("all-MiniLM-L6-v2", "encoder or reranker to start from")
    loss: str = option("lce", f"what to teach: {', '.join(RANKING_LOSSES)}")
    negatives: int = option(7, "negatives a question: from the file, mined, or of chance")
    miner: str = option("", "encoder that mines them with an index; none: from the file, or chance")
    max_length: int = option(256, "tokens of a question and a passage that are read together")
    dropout: float | None = option(None, "rate while training; the base's unless said")
    freeze_embeddings: bool = option(False, "leave the token table as it is")

    batch_size: int = option(16, "questions in a batch, on each device")
    max_epochs: int = option(1, "passes over the training file")
    lr: float = option(3e-5, "peak learning rate of AdamW")
    warmup_steps: int = option(100, "steps over which the learning rate rises from 0")
    precision: str = option("auto", "numbers to compute with: 32, 16, bf16 or auto")
    checkpoint_metric: str = option("", "what decides which epoch is best; the loss of val_path")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._one_of("loss", RANKING_LOSSES)
        self._at_least("negatives", 1)
        self._at_least("max_length", 5)
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1): {self.dropout!r}")
