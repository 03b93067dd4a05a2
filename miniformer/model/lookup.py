"""Guess the next tokens from what was read (prompt-lookup decoding): copied text costs few steps.

A guess is checked by the model in one step and kept only as far as greedy decoding agrees.
"""

import torch
from torch import Tensor

from miniformer.model.decoding import Decoding

LONGEST_MATCH = 3
MAX_GUESSES = 10


def guess(context: Tensor, written: Tensor, limit: int) -> Tensor:
    """Up to ``limit`` tokens that followed the last ones before, in ``context`` [S] or what was
    ``written`` [T]; the longest match wins, the earliest among equals. May be empty.
    """
    text = torch.cat([context, written])
    for size in range(min(LONGEST_MATCH, written.numel(), text.numel() - 1), 0, -1):
        windows = text[:-1].unfold(0, size, 1)  # without the last window: the end itself
        found = (windows == written[-size:]).all(dim=1).nonzero()
        if found.numel():
            begin = int(found[0]) + size
            return text[begin : begin + limit]
    return written[:0]


def agreed(guesses: Tensor, greedy: Tensor) -> int:
    """How many of guesses [n] are what greedy [n + 1] would have written."""
    same = guesses == greedy[: guesses.numel()]
    return int(same.long().cumprod(0).sum())


def look_up(state: Decoding, context: Tensor, limit: int, ends: Tensor) -> Tensor:
    """The up to ``limit`` tokens that greedy decoding writes, several a step where guesses hold.

    ``state`` is of one row; ``ends`` bool [V] marks the tokens that end it.
    """
    tokens, prompt = state.prompt, state.prompt[0]
    written, guesses, read = prompt, prompt[:0], 0
    while True:
        logits = state.step(tokens)[0]
        greedy = logits[tokens.size(1) - guesses.numel() - 1 :].argmax(dim=-1)
        right = agreed(guesses, greedy)
        read += tokens.size(1) - guesses.numel() + right
        state.rewind(read)
        written = torch.cat([written, greedy[: right + 1]])
        new = written[prompt.numel() :][:limit]
        over = ends[new].nonzero()
        if over.numel():
            return new[: int(over[0]) + 1]
        if new.numel() == limit:
            return new
        # One token less than may still be written: the model adds one of its own.
        guesses = guess(context, written, min(MAX_GUESSES, limit - new.numel() - 1))
        tokens = torch.cat([written[-1:], guesses])[None]
