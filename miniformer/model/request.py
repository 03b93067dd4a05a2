"""What is asked of a generation: limits, ends, and how tokens are chosen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from miniformer.config.model_config import TransformerConfig
from miniformer.model.head import outputs_of
from miniformer.model.sampling import Sampling

Stop = Callable[[Tensor], bool]
Allowed = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Request:
    """What is asked for: limits, ends, and how tokens are chosen."""

    limits: Tensor  # int64 [B]: the most new tokens of each row
    ends: Tensor  # bool [V]: the tokens that end a row
    pad: int
    sampling: Sampling
    stop: Stop | None
    generator: torch.Generator | None
    forced_first: int | None
    forced_last: int | None
    allowed: Allowed | None = None

    @property
    def longest(self) -> int:
        """The most new tokens of any row."""
        return int(self.limits.max())

    def forced(self, scores: Tensor, written: int) -> Tensor:
        """Leave one token possible where the model was trained so (BART's first and last)."""
        wanted = {1: self.forced_first, self.longest: self.forced_last}.get(written)
        if wanted is None:
            return scores
        only = torch.full_like(scores, float("-inf"))
        only[:, wanted] = 0.0
        return only

    def permitted(self, scores: Tensor, sources: Tensor, new: Tensor) -> Tensor:
        """Leave only the tokens [R, V] that may follow ``new`` [R, t], written for ``sources``."""
        if self.allowed is None:
            return scores
        return scores.masked_fill(~self.allowed(sources, new), float("-inf"))


def make_request(
    config: TransformerConfig,
    source: Tensor,
    max_new_tokens: int | Sequence[int],
    sampling: Sampling,
    *,
    eos_token_id: int | Sequence[int] | None = None,
    pad_token_id: int | None = None,
    stop: Stop | None = None,
    generator: torch.Generator | None = None,
    allowed: Allowed | None = None,
) -> Request:
    """Fill what was left open from the configuration; ValueError for limits that do not fit."""
    rows = source.size(0)
    limits = torch.as_tensor(max_new_tokens, device=source.device).expand(rows)
    if limits.is_floating_point() or (limits < 1).any():
        raise ValueError(f"max_new_tokens must be whole and at least 1: {max_new_tokens!r}")
    outputs = outputs_of(config, source)
    ends = torch.zeros(outputs, dtype=torch.bool, device=source.device)
    eos = config.eos_token_id if eos_token_id is None else eos_token_id
    for token in [eos] if isinstance(eos, int) else eos:
        if not 0 <= token < outputs:
            raise ValueError(f"eos_token_id {token} is not in 0 … {outputs - 1}")
        ends[token] = True
    pad = config.pad_token_id if pad_token_id is None else pad_token_id
    forced = config.forced_bos_token_id, config.forced_eos_token_id
    return Request(limits, ends, pad, sampling, stop, generator, *forced, allowed)


def check_combination(
    request: Request, beams: int, returned: int, lookup: bool, scored: bool = False
) -> None:
    """ValueError for ways of writing that do not go together."""
    if returned > beams:
        raise ValueError(f"num_return_sequences {returned} is more than num_beams {beams}")
    if beams > 1 and (request.sampling.draws or lookup):
        raise ValueError("beams neither sample nor look up; leave num_beams at 1")
    if beams > 1 and (request.stop or len(set(request.limits.tolist())) > 1):
        raise ValueError("beams take one max_new_tokens for all rows, and no stop")
    greedy = not request.sampling.draws and request.sampling.repetition_penalty == 1
    free = not request.stop and not request.allowed
    free = free and (request.forced_first, request.forced_last) == (None, None)
    if lookup and not (greedy and free):
        raise ValueError("prompt_lookup is greedy: no sampling, penalty, stop, allowed or forced")
    if scored and beams == 1:
        raise ValueError("only beams return scores; set num_beams above 1")
