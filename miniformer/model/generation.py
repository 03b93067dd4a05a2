"""Write tokens with any model: greedy, sampled, by beams, by lookup, as a whole or as a stream."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from miniformer.model.beam import Beams, BeamSearch, widen
from miniformer.model.decoding import Decoding, Generator, begin
from miniformer.model.lookup import look_up
from miniformer.model.request import Request, check_combination, make_request
from miniformer.model.sampling import Sampling, penalised


@torch.inference_mode()
def generate(
    model: Generator,
    source: Tensor,
    attention_mask: Tensor | None = None,
    *,
    max_new_tokens: int | Sequence[int] = 100,
    do_sample: bool | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    num_beams: int = 1,
    length_penalty: float = 1.0,
    early_stopping: bool | Literal["never"] = False,
    num_return_sequences: int = 1,
    prompt_lookup: bool = False,
    use_cache: bool = True,
    return_scores: bool = False,
    **more: Any,
) -> Any:
    """Write token ids: int64 [B · num_return_sequences, T], padded with ``pad_token_id``.

    ``source`` [B, S] is what a sequence-to-sequence model reads (the result begins with its start
    token) or what a causal model continues (the result begins with it). ``max_new_tokens`` is one
    number or one a row. ``do_sample`` unless said follows from whether temperature, top_k or top_p
    is set; then chance decides, drawn from ``generator``. ``num_beams`` > 1 searches by beams and
    returns the best ``num_return_sequences``; ``prompt_lookup`` writes what greedy would, in fewer
    steps where text is copied (int8 weights round together what is read together: nearly so).
    Also: ``eos_token_id`` (one, several, or () for none), ``pad_token_id``, ``stop`` (a function of
    the new ids [T] of a row, true when it is done), ``allowed`` (from sources int64 [R] and the new
    ids [R, t] of the row written for each to the tokens that may come next, bool [R, V]). Without a
    mask, padding of the source is told by the model's ``pad_token_id``. Beams ``return_scores``
    too: float [B · num_return_sequences], log-probabilities over length^length_penalty, lowest for
    rows that were not to be had. ValueError for settings out of range or at odds.
    """
    if do_sample is None:
        do_sample = (temperature, top_k, top_p) != (1.0, 0, 1.0) and num_beams == 1
    sampling = Sampling(do_sample, temperature, top_k, top_p, repetition_penalty)
    request = make_request(model.config, source, max_new_tokens, sampling, **more)
    check_combination(request, num_beams, num_return_sequences, prompt_lookup, return_scores)
    if prompt_lookup:
        return _by_lookup(model, source, attention_mask, request, use_cache=use_cache)
    search = BeamSearch(num_beams, length_penalty, early_stopping)
    state = begin(model, source, attention_mask, request.longest, use_cache=use_cache)
    if num_beams > 1:
        beams = search_beams(state, search, request)
        width, length = num_return_sequences, int(beams.finished.lengths.max())
        ids = beams.finished.ids[:, :width, : state.prompt.size(1) + length].flatten(0, 1)
        return (ids, beams.finished.scores[:, :width].flatten()) if return_scores else ids
    return torch.cat([state.prompt, torch.stack(list(write(state, request)), 1)], 1)


def stream(
    model: Generator, source: Tensor, attention_mask: Tensor | None = None, **how: Any
) -> Iterator[Tensor]:
    """The tokens that :func:`generate` would write, int64 [B] a step, as they come; a row that is
    done gives ``pad_token_id``. Takes its settings except those of beams and lookup, and raises
    what it would at the call, not at the first step.
    """
    settings = {name: how.pop(name) for name in list(how) if name in Sampling.__annotations__}
    limits = how.pop("max_new_tokens", 100)
    use_cache = how.pop("use_cache", True)
    chance = {"temperature", "top_k", "top_p"} & settings.keys()
    settings.setdefault("do_sample", bool(chance))
    request = make_request(model.config, source, limits, Sampling(**settings), **how)
    with torch.inference_mode():
        state = begin(model, source, attention_mask, request.longest, use_cache=use_cache)
        return _handed_out(write(state, request))


def _handed_out(steps: Iterator[Tensor]) -> Iterator[Tensor]:
    while True:
        with torch.inference_mode():  # not held while the caller has the token
            token = next(steps, None)
        if token is None:
            return
        yield token


def write(state: Decoding, request: Request) -> Iterator[Tensor]:
    """One token a row and step, int64 [B]; rows that are done leave the state."""
    prompt = state.prompt
    alive = torch.arange(prompt.size(0), device=prompt.device)
    new = prompt.new_empty(prompt.size(0), request.longest)
    seen = _seen(state, request)
    tokens = prompt
    for written in range(1, request.longest + 1):
        scores = state.step(tokens)[:, -1]
        if seen is not None:
            scores = penalised(scores, seen[alive], request.sampling.repetition_penalty)
        scores = request.permitted(scores, alive, new[alive, : written - 1])
        chosen = request.sampling.choose(request.forced(scores, written), request.generator)
        step = torch.full_like(prompt[:, 0], request.pad)
        step[alive] = chosen
        new[:, written - 1] = step
        yield step
        if seen is not None:
            seen[alive, chosen] = True
        going = ~_done(request, alive, chosen, new[:, :written])
        if not going.any():
            return
        if not going.all():
            kept = going.nonzero()[:, 0]
            state.drop(kept)
            alive, chosen = alive[kept], chosen[kept]
        tokens = chosen[:, None]


def _seen(state: Decoding, request: Request) -> Tensor | None:
    """Bool [B, V]: the tokens that a penalty falls on, beginning with the prompt's."""
    if request.sampling.repetition_penalty == 1:
        return None
    rows = state.prompt.size(0)
    seen = torch.zeros(rows, request.ends.numel(), dtype=torch.bool, device=state.prompt.device)
    real = state.prompt_mask.bool()
    row = torch.arange(rows, device=seen.device)[:, None].expand_as(real)
    seen[row[real], state.prompt[real]] = True
    return seen


def _done(request: Request, alive: Tensor, chosen: Tensor, new: Tensor) -> Tensor:
    done = request.ends[chosen] | (request.limits[alive] <= new.size(1))
    if request.stop is None:
        return done
    stopped = [request.stop(new[row]) for row in alive.tolist()]
    return done | torch.tensor(stopped, device=done.device)


def search_beams(state: Decoding, search: BeamSearch, request: Request) -> Beams:
    """Search until no running hypothesis can win; ``finished`` of the result holds the best."""
    width = search.width
    beams = Beams(search, state.prompt, request.longest, request.pad)
    scores = state.step(state.prompt)[:, -1].repeat_interleave(width, dim=0)
    widen(state, width)
    seen = _seen(state, request)
    seen = None if seen is None else seen.repeat_interleave(width, dim=0)
    sources = torch.arange(state.prompt.size(0), device=scores.device).repeat_interleave(width)
    for written in range(1, request.longest + 1):
        log_probabilities = scores.float().log_softmax(dim=-1)
        if seen is not None:
            penalty = request.sampling.repetition_penalty
            log_probabilities = penalised(log_probabilities, seen, penalty)
        log_probabilities = request.permitted(log_probabilities, sources, beams.written(written))
        parents = beams.advance(request.forced(log_probabilities, written), written, request.ends)
        if beams.over:
            break
        state.select(parents)
        last = beams.ids[:, :, beams.prompt_length + written - 1].reshape(-1, 1)
        if seen is not None:
            seen = seen[parents].scatter(1, last, True)
        scores = state.step(last)[:, -1]
    return beams


def _by_lookup(
    model: Generator, source: Tensor, mask: Tensor | None, request: Request, *, use_cache: bool
) -> Tensor:
    """Each row by itself, for rows agree with their guesses to different lengths."""
    prompts, rows = [], []
    for index, limit in enumerate(request.limits.tolist()):
        own = source[index : index + 1]
        own_mask = None if mask is None else mask[index : index + 1]
        state = begin(model, own, own_mask, limit, use_cache=use_cache)
        context = source[index][source[index] != model.config.pad_token_id]
        prompts.append(state.prompt)
        rows.append(look_up(state, context, limit, request.ends))
    new = source.new_full((len(rows), max(map(len, rows))), request.pad)
    for index, row in enumerate(rows):
        new[index, : len(row)] = row
    return torch.cat([torch.cat(prompts), new], dim=1)
