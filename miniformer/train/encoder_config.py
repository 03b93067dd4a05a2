"""What the training of a sentence encoder is told."""

from dataclasses import dataclass, field

from miniformer.model.tables import row
from miniformer.train.contrastive import LOSSES, LossKind
from miniformer.train.run_config import RunConfig, option


@dataclass
class EncoderConfig(RunConfig):
    """Train a sentence encoder on pairs, scored pairs, triplets or a teacher's embeddings."""

    train_path: list[str] = field(
        default_factory=list, metadata={"help": "files of records: JSON lines or Parquet"}
    )
    val_path: str = option("", "file of records whose loss is measured every epoch")
    output: str = option("", "folder of the trained encoder")
    base: str = option("all-MiniLM-L6-v2", "encoder to start from")
    loss: str = option("", f"what to teach: {', '.join(LOSSES)}; by the fields unless said")
    layers: str = option("", "the base's layers to start from: 3 evenly spread, or 0,4,5; all")
    teacher: str = option("all-MiniLM-L6-v2", "encoder that distillation learns from")
    max_length: int = option(0, "tokens of a text that are read; 0: what the base reads")
    dropout: float | None = option(None, "rate while training; the base's, 0 under a teacher")
    temperature: float = option(0.05, "of in-batch negatives")
    symmetric: bool = option(False, "also ask each positive for its query")
    margin: float | None = option(None, "of triplets; of in-batch negatives: see the losses")
    matryoshka: str = option("", "widths to train too, as 256,128,64")
    hard_negatives: int = option(0, "negatives a query, mined or from the file")
    cached: bool = option(False, "encode big batches in chunks that are computed twice (GradCache)")
    freeze_embeddings: bool = option(False, "leave the token table as it is")
    base_share: float = option(0.0, "share of the base's weights in those that are saved (WiSE-FT)")

    batch_size: int = option(64, "examples in a batch, on each device")
    max_epochs: int = option(1, "passes over the training file")
    lr: float = option(2e-5, "peak learning rate of AdamW")
    warmup_steps: int = option(100, "steps over which the learning rate rises from 0")
    precision: str = option("auto", "numbers to compute with: 32, 16, bf16 or auto")
    checkpoint_metric: str = option("", "what decides which epoch is best; by the evaluation")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.layers = str(self.layers)
        for name in ("max_length", "hard_negatives"):
            self._at_least(name, 0)
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1): {self.dropout!r}")
        if not 0 <= self.base_share < 1 or (self.base_share and self.lora_rank):
            raise ValueError(f"base_share must be in [0, 1), 0 with LoRA: {self.base_share!r}")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0: {self.temperature!r}")
        if self.loss:
            row(LOSSES, self.loss, "loss")
        if any(not 0 < width for width in self.dims):
            raise ValueError(f"matryoshka widths must be above 0: {self.matryoshka!r}")
        if any(number < 0 for number in self.layer_numbers):
            raise ValueError(f"layers must be numbers from 0: {self.layers!r}")

    @property
    def dims(self) -> list[int]:
        """The widths of ``matryoshka``."""
        return self._numbers("matryoshka")

    @property
    def layer_numbers(self) -> list[int]:
        """The numbers of ``layers``."""
        return self._numbers("layers")

    def _numbers(self, name: str) -> list[int]:
        text = getattr(self, name)
        try:
            return [int(part) for part in text.split(",") if part]
        except ValueError:
            raise ValueError(f"{name} must be numbers with commas: {text!r}") from None

    @property
    def kind(self) -> LossKind:
        """The row of the table of losses."""
        return row(LOSSES, self.loss, "loss")
