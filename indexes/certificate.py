"""How good an index is, measured: the fastest setting of its knob that keeps a promised recall.

Queries are rows that the index does not know yet (``kinds.build`` shows it to a trial before it
adds them). Rows that it knows would flatter it: a graph has links made for each of them. On 100,000
sentence embeddings such a row finds 0.991 of its ten nearest where a new one finds 0.958.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from indexes.layout import Vectors

HELD = 4_000  # rows that are asked for: a recall of 0.95 is then known to about 0.004
HELD_SHARE = 20  # at most one row in so many
CERTAIN = 1.645  # standard errors below the measured recall: 19 times of 20 the promise holds
DEPTH = 10  # recall@10

Found: TypeAlias = npt.NDArray[np.bool_]
Rows: TypeAlias = npt.NDArray[np.int64]
Search: TypeAlias = Callable[[Vectors, int], Rows]


@dataclass(frozen=True)
class Certificate:
    """What was measured: recall@10 and the queries a second, at this setting of the knob.

    ``recall`` is the mean over ``queries`` rows that the index did not know. ``reached`` tells
    whether it stays at ``target`` or above for new queries too, with 95 % confidence; where no
    setting does, this is the best one.
    """

    recall: float
    queries_per_second: float
    knob: int
    target: float
    queries: int
    reached: bool

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Certificate":
        """The certificate of a record; ValueError names what is wrong with it."""
        if not isinstance(record, Mapping) or record.keys() != cls.__annotations__.keys():
            raise ValueError(f"a certificate has the fields {', '.join(cls.__annotations__)}")
        made = cls(**record)
        whole = {"knob": made.knob, "queries": made.queries}
        bad = [name for name, value in whole.items() if type(value) is not int or value < 0]
        shares = {"recall": made.recall, "target": made.target}
        bad += [
            name for name, value in shares.items() if not _is_number(value) or not 0 <= value <= 1
        ]
        speed = made.queries_per_second
        bad += [] if _is_number(speed) and 0 <= speed < math.inf else ["queries_per_second"]
        bad += [] if type(made.reached) is bool else ["reached"]
        if bad:
            raise ValueError(f"a certificate's {bad[0]} cannot be {record[bad[0]]!r}")
        return made


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def hold_back(rows: Rows, seed: int, share: int = HELD_SHARE) -> Rows:
    """The rows to ask for: a random sample of those given, ascending; ``HELD`` of them, or fewer
    where that would be more than one in ``share``, but one at least.
    """
    count = min(HELD, max(len(rows) // share, 1), len(rows))
    return np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))


class Trials:
    """Tries the settings of one knob on an index that lies in several segments.

    ``queries`` are unit rows [q, dim], ``truth`` int64 [q, 10] the nearest rows to each by exact
    search over everything but the queries, padded with -1; rows count through all segments.
    ``knobs`` ascend, from the fastest setting to the most exact. ValueError for no query, no
    setting, or a target outside of (0, 1].
    """

    def __init__(self, queries: Vectors, truth: Rows, knobs: Sequence[int], target: float) -> None:
        if not 0 < target <= 1:
            raise ValueError(f"a recall target must be above 0 and at most 1, got {target}")
        if not len(queries) or len(queries) != len(truth) or not (truth >= 0).any(axis=1).all():
            raise ValueError("a recall needs queries, and at least one true row for each")
        if not knobs or list(knobs) != sorted(set(knobs)):
            raise ValueError(f"the settings to try must ascend, got {list(knobs)}")
        self._queries = queries
        self._truth = truth
        self._knobs = list(knobs)
        self._target = target
        self._found = {knob: np.zeros(truth.shape, bool) for knob in knobs}
        self._seconds = dict.fromkeys(knobs, 0.0)

    def run(self, search: Search, first: int = 0, rows: int | None = None) -> None:
        """Measure one segment: that of the ``rows`` rows from ``first`` on, all by default.

        ``search(queries, knob)`` returns local rows [q, m], -1 where there is none. All of a line
        are taken to be scored exactly, so that a true row among them is always returned. Higher
        settings than the first that satisfies the target here are not tried.
        """
        here = self._truth >= first
        if rows is not None:
            here &= self._truth < first + rows
        found, seconds, enough = np.zeros_like(here), 0.0, False
        for knob in self._knobs:
            if not enough:
                begun = time.perf_counter()
                answers = search(self._queries, knob)
                seconds = time.perf_counter() - begun
                found = here & _contained(self._truth - first, answers)
                enough = _recall(found, here)[1] >= self._target
            self._found[knob] |= found
            self._seconds[knob] += seconds

    def certificate(self) -> Certificate:
        """The fastest setting that reaches the target over all segments, else the best one."""
        counted = self._truth >= 0
        measured = {knob: _recall(self._found[knob], counted) for knob in self._knobs}
        reaching = [knob for knob in self._knobs if measured[knob][1] >= self._target]
        knob = reaching[0] if reaching else max(self._knobs, key=lambda knob: measured[knob][0])
        count = len(self._queries)
        speed = count / max(self._seconds[knob], 1e-9)
        recall = measured[knob][0]
        return Certificate(recall, speed, knob, self._target, count, reached=bool(reaching))


def _contained(truth: Rows, answers: Rows) -> Found:
    """Which true rows are among the answers to their query."""
    lines = zip(truth, answers, strict=True)
    return np.array([np.isin(true, line) for true, line in lines])


def _recall(found: Found, counted: Found) -> tuple[float, float]:
    """The mean recall over the queries that have true rows, and what it is at least."""
    asked = counted.any(axis=1)
    if not asked.any():
        return 1.0, 1.0
    each = (found & counted)[asked].sum(axis=1) / counted[asked].sum(axis=1)
    mean = float(each.mean())
    return mean, mean - CERTAIN * float(each.std()) / math.sqrt(len(each))


def tune(
    search: Search, knobs: Sequence[int], queries: Vectors, truth: Rows, target: float
) -> Certificate:
    """The fastest setting with which one search reaches the target; see :class:`Trials`."""
    trials = Trials(queries, truth, knobs, target)
    trials.run(search)
    return trials.certificate()
