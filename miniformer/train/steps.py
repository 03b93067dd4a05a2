"""How the modules under training take their steps."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch.nn.utils import clip_grad_norm_

from miniformer.train.run_config import RunConfig
from miniformer.train.schedules import optimization


class SteppingModule(pl.LightningModule):
    """A module of ``config``: AdamW, its schedule stepped with it, and a limit of the gradient."""

    config: RunConfig

    def configure_optimizers(self) -> Any:
        """AdamW and the configured schedule, stepped with every optimizer step."""
        return optimization(self, self.config, int(self.trainer.estimated_stepping_batches))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Log the learning rate, of all weights alike, as ``lr``."""
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Scale the gradient down to the limit; Lightning itself would refuse the fused AdamW."""
        if gradient_clip_val:
            clip_grad_norm_([p for p in self.parameters() if p.grad is not None], gradient_clip_val)
