"""Texts encoded beside the caller's own work: in a thread, or in several processes."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import Queue
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from retrieval.encoding import WINDOW, WINDOW_BYTES, Counts, Item, TextEncoder, Vectors, windows
from retrieval.errors import ModelError

Ids = npt.NDArray[np.int32]


class Window(NamedTuple):
    """Texts that are taken together: at most so many, and so many bytes of them, less one."""

    rows: int
    bytes: int


PLAIN = Window(WINDOW, WINDOW_BYTES)  # of an encoder that says nothing of it


@runtime_checkable
class StagedEncoder(TextEncoder, Protocol):
    """An encoder that can tokenize texts while it encodes others."""

    window: Window

    def tokenize(self, texts: Sequence[str]) -> tuple[list[Ids], Counts]:
        """The ids of each document, and how many tokens each lost at max_length."""

    def pieces(self, rows: Sequence[Ids]) -> Iterator[list[int]]:
        """Positions of rows that are embedded together, however many pieces there are."""

    def embed(self, rows: Sequence[Ids]) -> Vectors:
        """Unit rows float32 [n, dim]."""

    def elsewhere(self, workers: int) -> Callable[[Sequence[Ids]], Vectors]:
        """``embed`` for one of so many processes: it opens the model again where it is called."""


class Pending:
    """Texts that are being encoded: pieces of them, by position."""

    def __init__(
        self, pieces: Sequence[tuple[Sequence[int], Future[Any]]], dim: int, lost: Counts | None
    ) -> None:
        self._pieces, self._dim, self._lost = pieces, dim, lost

    def done(self) -> bool:
        """Whether all vectors are there."""
        return all(
            future.done() and not future.cancelled() and future.exception() is None
            for _, future in self._pieces
        )

    def result(self) -> tuple[Vectors, Counts]:
        """Wait for the unit rows float32 [n, dim], and what each text lost: int32 [n]."""
        if self._lost is None:
            vectors, lost = self._pieces[0][1].result()
            return vectors, lost
        try:
            vectors = np.empty((len(self._lost), self._dim), np.float32)
            for places, future in self._pieces:
                vectors[places] = future.result()
        except BrokenProcessPool:
            raise ModelError(
                "a process that encodes has died (killed, or out of memory); fewer --workers need "
                "less memory"
            ) from None
        return vectors, self._lost


class Background:
    """An encoder at work in a thread, or in ``workers`` processes that share the threads.

    What is submitted is encoded in pieces that depend on the texts alone, in order; ``window`` says
    how many texts to submit at once, the given one where the encoder has no wish. Closing it drops
    what waits; the pieces under way end first. ValueError for fewer than one worker,
    ModelError where an encoder cannot be opened in other processes, and from what is pending where
    one of these dies.
    """

    def __init__(self, encoder: TextEncoder, workers: int = 1, window: Window = PLAIN) -> None:
        self._encoder = encoder
        self._staged = encoder if isinstance(encoder, StagedEncoder) else None
        self.window = self._staged.window if self._staged else window
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        self._pool: Executor
        self._embed: Callable[[Sequence[Ids]], Vectors] | None
        if workers == 1:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="encoder")
            self._embed = self._staged.embed if self._staged else None
        elif self._staged is None:
            raise ModelError(f"{type(encoder).__name__} encodes in this process only: workers=1")
        else:
            self._embed = self._staged.elsewhere(workers)
            context = multiprocessing.get_context("spawn")
            ranks = context.Queue()
            for rank in range(workers):
                ranks.put(rank)
            self._pool = ProcessPoolExecutor(workers, context, _begin, (ranks,))

    def submit(self, texts: Sequence[str]) -> Pending:
        """Tokenize documents now, and have them encoded."""
        if self._staged is None or self._embed is None:
            future = self._pool.submit(self._encoder.encode_document, texts)
            return Pending([((), future)], self._encoder.dim, None)
        rows, lost = self._staged.tokenize(texts)
        pieces = [
            (piece, self._pool.submit(self._embed, [rows[place] for place in piece]))
            for piece in self._staged.pieces(rows)
        ]
        return Pending(pieces, self._encoder.dim, lost)

    def stream(
        self, items: Iterable[Item], text: Callable[[Item], str]
    ) -> Iterator[tuple[list[Item], Vectors]]:
        """Items a window at a time, with the vectors of their texts; the next is read meanwhile."""
        pending: deque[tuple[list[Item], Pending]] = deque()
        for window in windows(items, self.window.rows):
            pending.append((window, self.submit([text(item) for item in window])))
            if len(pending) > 1:
                taken, vectors = pending.popleft()
                yield taken, vectors.result()[0]
        for taken, vectors in pending:
            yield taken, vectors.result()[0]

    def close(self) -> None:
        """Drop what waits, and wait for what is under way."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _begin(ranks: "Queue[int]") -> None:
    """Set up a process of its own: Ctrl-C is its parent's, and it does not outlive that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["LOCAL_RANK"] = str(ranks.get())
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
