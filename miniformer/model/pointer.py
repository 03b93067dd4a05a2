"""Outputs that are places of the source: a decoder that copies by pointing, and its best spans."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from miniformer.model.request import Allowed
    from miniformer.model.seq2seq_transformer import Seq2SeqTransformer

NOWHERE = 0  # the output for "the source does not say"; output 1 + i is place i of the memory


class Pointer(nn.Module):
    """Score every place of a memory (Vinyals et al. 2015), and read the one that was pointed at.

    A span is written as two outputs, its first and its last place (the boundary model of Wang and
    Jiang 2017): the decoder reads the state of the first before it chooses the last.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.nowhere = nn.Embedding(1, d_model)
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)

    def forward(self, states: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """States [R, T, d_model] beside a memory [M, S, d_model] to logits float32 [R, T, 1 + S].

        ``mask`` bool [M, 1, 1, S] is True at real places; R may be a multiple of M, as in
        :class:`~miniformer.model.decoder.DecoderLayer`.
        """
        queries = self.query(states).reshape(memory.size(0), -1, memory.size(-1))
        scores = queries @ self.key(self._places(memory)).transpose(1, 2)
        scores = scores.float() / math.sqrt(memory.size(-1))
        if mask is not None:
            there = nn.functional.pad(mask[:, 0], (1, 0), value=True)  # [M, 1, 1 + S]
            scores = scores.masked_fill(~there, torch.finfo(scores.dtype).min)
        logits: Tensor = scores.view(*states.shape[:2], -1)
        return logits

    def embed(self, outputs: Tensor, memory: Tensor) -> Tensor:
        """The states [R, T, d_model] at the places that outputs [R, T] point at."""
        places = self._places(memory)
        wanted = outputs.reshape(memory.size(0), -1, 1).expand(-1, -1, memory.size(-1))
        return places.gather(1, wanted).view(*outputs.shape, -1)

    def _places(self, memory: Tensor) -> Tensor:
        nowhere = self.nowhere.weight.expand(memory.size(0), 1, -1)
        return torch.cat([nowhere.to(memory.dtype), memory], dim=1)


@dataclass(frozen=True)
class Span:
    """Places ``first`` … ``last``, both in it, of row ``row`` of a source, and how likely."""

    row: int
    first: int
    last: int
    probability: float


@torch.inference_mode()
def find_spans(
    model: "Seq2SeqTransformer",
    source: Tensor,
    mask: Tensor,
    quotable: Tensor,
    *,
    longest: int = 30,
    width: int = 8,
) -> list[list[Span]]:
    """The likeliest spans of each source [B, k, L], best first, found by ``width`` beams.

    ``quotable`` bool [B, k, L] is True where a span may lie; one lies in one row and has at most
    ``longest`` places. Probabilities are over all spans and "nowhere", which has what they lack.
    """
    found, scores = model.generate(
        source,
        mask,
        max_new_tokens=2,
        num_beams=width,
        num_return_sequences=width,
        length_penalty=0.0,
        eos_token_id=NOWHERE,
        pad_token_id=NOWHERE,
        allowed=in_one_row(quotable, longest),
        return_scores=True,
    )
    length = source.size(2)
    ends = found[:, 1:].view(len(source), width, -1)
    spans: list[list[Span]] = []
    for pairs, values in zip(ends.tolist(), scores.view(-1, width).tolist(), strict=True):
        spans.append([])
        for pair, score in zip(pairs, values, strict=True):
            probability = math.exp(score)
            if len(pair) == 2 and pair[0] != NOWHERE and probability > 0:
                (row, first), (_, last) = (divmod(place - 1, length) for place in pair)
                spans[-1].append(Span(row, first, last, probability))
    return spans


def in_one_row(quotable: Tensor, longest: int) -> "Allowed":
    """First nowhere or any quotable place [B, k, L], then one behind it in the same row."""
    length = quotable.size(2)
    places = nn.functional.pad(quotable.flatten(1), (1, 0), value=True)  # [B, 1 + k · L]

    def allowed(sources: Tensor, new: Tensor) -> Tensor:
        may = places[sources]
        if new.size(1) == 0:
            return may
        first, place = new[:, :1], torch.arange(places.size(1), device=places.device)
        same_row = (place - 1).div(length, rounding_mode="floor") == (first - 1).div(
            length, rounding_mode="floor"
        )
        return may & same_row & (place >= first) & (place < first + longest)

    return allowed
