"""AdamW with its groups, and the learning rate of every step."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

if TYPE_CHECKING:
    from miniformer.train.run_config import RunConfig

logger = logging.getLogger(__name__)
SHARE_OF_WARMUP = 0.1  # of a run that is shorter than the warm-up that was asked for


@dataclass(frozen=True)
class Plan:
    """How long a run is: ``steps`` in all, the first ``warmup`` of them rising to ``lr``."""

    lr: float
    steps: int
    warmup: int

    def rise(self, step: int) -> float:
        """The share of the learning rate that warm-up allows at a step."""
        return min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0

    def left(self, step: int) -> float:
        """The share of the time behind the warm-up that is gone, 0 … 1."""
        return min(1.0, max(0.0, (step - self.warmup) / max(1, self.steps - self.warmup)))


def constant(optimizer: torch.optim.Optimizer, plan: Plan) -> LRScheduler:
    """The learning rate as it is, without warm-up."""
    return LambdaLR(optimizer, lambda step: 1.0)


def linear(optimizer: torch.optim.Optimizer, plan: Plan) -> LRScheduler:
    """Linear warm-up, then constant."""
    return LambdaLR(optimizer, plan.rise)


def cosine(optimizer: torch.optim.Optimizer, plan: Plan) -> LRScheduler:
    """Linear warm-up, then half a cosine down to 0 (Loshchilov & Hutter 2017)."""
    return LambdaLR(
        optimizer,
        lambda step: min(plan.rise(step), (1 + math.cos(math.pi * plan.left(step))) / 2),
    )


def onecycle(optimizer: torch.optim.Optimizer, plan: Plan) -> LRScheduler:
    """Up to ``lr`` and down to nearly 0 (Smith & Topin 2019); the warm-up is the way up, three
    tenths of the run when there is none.
    """
    share = plan.warmup / plan.steps if plan.warmup else 0.3
    return OneCycleLR(optimizer, plan.lr, total_steps=plan.steps + 1, pct_start=share)


SCHEDULERS: Mapping[str, Callable[[torch.optim.Optimizer, Plan], LRScheduler]] = {
    "none": constant,
    "linear": linear,
    "cosine": cosine,
    "onecycle": onecycle,
}


def make_plan(lr: float, steps: int, warmup: int) -> Plan:
    """A plan whose warm-up fits; a word when it did not."""
    if warmup < steps:
        return Plan(lr, steps, warmup)
    shorter = max(1, int(SHARE_OF_WARMUP * steps))
    logger.warning(
        "warmup_steps %d is not shorter than the run of %d steps; warming up over %d",
        *(warmup, steps, shorter),
    )
    return Plan(lr, steps, shorter)


def make_optimizer(
    module: nn.Module, lr: float, weight_decay: float, *, fused: bool = True
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) that decays matrices only: no norms, no biases. Weights that
    are frozen are left out.
    """
    learning = [p for p in module.parameters() if p.requires_grad]
    if not learning:
        raise ValueError("every weight is frozen: there is nothing to train")
    groups = [
        {"params": [p for p in learning if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in learning if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, fused=fused)


def optimization(module: nn.Module, config: "RunConfig", steps: int) -> dict[str, Any]:
    """What Lightning's ``configure_optimizers`` returns: stepped with every optimizer step."""
    # The fused step scales gradients by itself under float16, behind the back of their limit.
    fused = config.precision != "16"
    optimizer = make_optimizer(module, config.lr, config.weight_decay, fused=fused)
    plan = make_plan(config.lr, steps, config.warmup_steps)
    schedule = SCHEDULERS[config.scheduler](optimizer, plan)
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": schedule, "interval": "step"},
    }
