"""Semantic textual similarity: how cosines follow what people said of pairs of sentences."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from retrieval.corpus import read_corpus
from retrieval.encoding import TextEncoder
from retrieval.errors import CorpusError
from retrieval.significance import Estimate, Numbers, Rows, resampled_interval

COLUMNS = ("sentence1", "sentence2", "score")
SAMPLES = 1_000  # of the bootstrap; each one is ranked anew
Pair = tuple[str, str, float]


@dataclass(frozen=True)
class ScoredPairs:
    """Pairs of sentences and how alike people found each, on any scale."""

    left: Sequence[str]
    right: Sequence[str]
    scores: Numbers


def read_pairs(path: str | Path) -> ScoredPairs:
    """The columns ``sentence1``, ``sentence2`` and ``score`` of a file.

    A .tsv file is split on tabs and knows no quoting, as STS-Benchmark is written; other formats
    are those of a corpus. CorpusError names the file and the row.
    """
    path = Path(path)
    if not path.is_file():
        raise CorpusError(f"{path}: no such file; expected pairs of sentences with their scores")
    pairs = list(_read_tsv(path) if path.suffix.lower() == ".tsv" else _read_columns(path))
    if len(pairs) < 2:
        raise CorpusError(f"{path}: {len(pairs)} pairs; a correlation needs at least two")
    left, right, scores = zip(*pairs, strict=True)
    return ScoredPairs(left, right, np.array(scores, np.float64))


def _read_tsv(path: Path) -> Iterator[Pair]:
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    names: list[str] = []
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        try:
            fields = line.rstrip(b"\r").decode().split("\t")
        except UnicodeDecodeError as error:
            raise CorpusError(f"{where}: invalid UTF-8 at byte {error.start}") from None
        if fields == [""]:
            continue
        if not names:
            names = fields
            if missing := [name for name in COLUMNS if name not in names]:
                raise CorpusError(f"{where}: no column {', '.join(missing)} in {', '.join(names)}")
        elif len(fields) != len(names):
            raise CorpusError(f"{where}: {len(fields)} fields; the header has {len(names)}")
        else:
            yield _pair(where, dict(zip(names, fields, strict=True)))


def _read_columns(path: Path) -> Iterator[Pair]:
    first, *others = COLUMNS
    corpus = read_corpus(path, text_column=first, metadata_columns=others)
    for document in corpus:
        yield _pair(corpus.where, {first: document.text, **document.metadata})
    if corpus.skipped:
        raise CorpusError(f"{path}: {corpus.skipped} rows without {first}")


def _pair(where: str, fields: Mapping[str, object]) -> Pair:
    texts = [fields.get(name) for name in COLUMNS[:2]]
    for name, text in zip(COLUMNS, texts, strict=False):
        if not isinstance(text, str) or not text.strip():
            raise CorpusError(f"{where}: {name} must be a text, found {text!r:.60}")
    try:
        score = float(str(fields.get("score")))
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise CorpusError(f"{where}: score must be a number, found {fields.get('score')!r:.60}")
    return str(texts[0]), str(texts[1]), score


def evaluate_pairs(
    encoder: TextEncoder, source: str | Path | ScoredPairs, *, seed: int = 0
) -> dict[str, Estimate]:
    """Spearman's and Pearson's correlation of cosines and scores, each with the interval that a
    bootstrap of the pairs gives. Both sentences are encoded as documents. The errors are those of
    :func:`read_pairs`.
    """
    pairs = source if isinstance(source, ScoredPairs) else read_pairs(source)
    left, right = (encoder.encode_document(texts)[0] for texts in (pairs.left, pairs.right))
    cosines = np.sum(left.astype(np.float64) * right, axis=1)
    return {
        name: _estimate(correlation, cosines, pairs.scores, seed)
        for name, correlation in CORRELATIONS.items()
    }


def _estimate(correlation: "Correlation", left: Numbers, right: Numbers, seed: int) -> Estimate:
    def of_drawings(rows: Rows) -> Numbers:
        return np.array([correlation(left[drawn], right[drawn]) for drawn in rows])

    interval = partial(resampled_interval, of_drawings, samples=SAMPLES, seed=seed)
    return Estimate(correlation(left, right), *interval(len(left)))


def pearson(left: npt.ArrayLike, right: npt.ArrayLike) -> float:
    """Pearson's r of two lists of numbers, in −1 … 1; 0 when one of them is constant."""
    centred = [_centred(np.asarray(each, np.float64)) for each in (left, right)]
    norms = float(np.linalg.norm(centred[0]) * np.linalg.norm(centred[1]))
    return float(np.clip(centred[0] @ centred[1] / norms, -1, 1)) if norms else 0.0


def _centred(values: Numbers) -> Numbers:
    # The mean of equal numbers may be off by rounding, and what is left is no variation.
    constant = values.size == 0 or values.min() == values.max()
    return np.zeros_like(values) if constant else values - values.mean()


def spearman(left: npt.ArrayLike, right: npt.ArrayLike) -> float:
    """Spearman's ρ of two lists of numbers, in −1 … 1; equal numbers share their mean rank. 0 when
    one of them is constant.
    """
    return pearson(_ranks(left), _ranks(right))


def _ranks(values: npt.ArrayLike) -> Numbers:
    _, inverse, counts = np.unique(
        np.asarray(values, np.float64), return_inverse=True, return_counts=True
    )
    ranks: Numbers = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks


Correlation = Callable[[npt.ArrayLike, npt.ArrayLike], float]
CORRELATIONS: Mapping[str, Correlation] = {"spearman": spearman, "pearson": pearson}
