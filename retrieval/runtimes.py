"""What encodes the questions to an index: NumPy for one short question, torch for many or long."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from indexes.forks import Process
from miniformer.weights import FoundModel, find_model
from retrieval.encoding import Counts, HowToCompute, TextEncoder, Vectors, check_texts
from retrieval.errors import ModelError, QueryError

RUNTIMES = ("auto", "numpy", "torch")
# What is encoded without loading torch first, which takes longer than this does.
FEW, SHORT = 4, 1_000  # texts, and their characters in all
# Who has asked so often goes on asking: by then NumPy has taken as long as torch takes to load.
OFTEN = 100
# What a folder that is no proper model folder, or a wrong argument, can raise.
EXPECTED = (OSError, ValueError, KeyError, TypeError, AttributeError)


class IndexEncoder:
    """The encoder that built an index, found on this machine only by what its manifest records.

    ``runtime="numpy"`` never imports torch, ``"torch"`` always does; ``"auto"`` begins with NumPy
    and moves over, for good, at the first batch of more than a few short texts, for a model that
    only torch computes, where a ``device`` or ``dtype`` is asked for, and, loading torch in the
    background where it is installed, after a hundred questions. Both give the same
    vectors, rounding aside. Safe to call from many threads. ModelError when the model is not here,
    or another one is here under its name.
    """

    def __init__(
        self,
        record: Mapping[str, Any],
        dim: int,
        *,
        runtime: str = "auto",
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        if runtime not in RUNTIMES:
            raise ValueError(f"runtime must be one of {', '.join(RUNTIMES)}, got {runtime!r}")
        self.dim = dim
        self.fingerprint: str = record["fingerprint"]
        self._record, self._process = record, Process()
        self._torch: HowToCompute = {"device": device, "dtype": dtype}
        asked = device not in ("auto", "cpu") or dtype not in ("auto", "float32")
        if runtime == "numpy" and asked:
            raise ModelError("the numpy runtime computes in float32 on the CPU only")
        self._only_numpy = runtime == "numpy"
        self._loading, self._asked = threading.Lock(), count(1)
        self._loaded: TextEncoder | None = None
        if runtime == "torch" or asked or not self._try_numpy():
            self._loaded = self._load_torch()

    def _try_numpy(self) -> bool:
        """Whether NumPy computes this model."""
        from miniformer.minilm.numpy_encoder import NumpyEncoder

        try:
            found = find_recorded(self._record)
            length, files = self._record["max_length"], self._record.get("files", ())
            self._numpy = NumpyEncoder(found, max_length=length, known=files)
        except EXPECTED as error:
            if self._only_numpy:
                raise ModelError(reason(error)) from error
            return False
        check_same(self._record, found.path, self._numpy.fingerprint)
        return True

    def _load_torch(self) -> TextEncoder:
        from retrieval.assembly import Encoder

        return Encoder.from_record(self._record, **self._torch)

    def _for(self, texts: Sequence[str]) -> TextEncoder:
        """What encodes these texts."""
        self._process.check()
        check_texts(texts)
        if self._loaded is not None:
            return self._loaded
        if self._only_numpy or (len(texts) <= FEW and sum(map(len, texts)) <= SHORT):
            if next(self._asked) == OFTEN and not self._only_numpy:
                threading.Thread(target=self._move_over_if_possible).start()
            return self._numpy
        return self._move_over()

    def _move_over(self) -> TextEncoder:
        with self._loading:
            if self._loaded is None:
                self._loaded = self._load_torch()
            return self._loaded

    def _move_over_if_possible(self) -> None:
        with suppress(ImportError, ModelError):  # else NumPy goes on
            self._move_over()

    @property
    def max_length(self) -> int:
        """How many tokens of a text are read."""
        return int(self._record["max_length"])

    @property
    def record(self) -> Mapping[str, Any]:
        """What the index keeps of it."""
        return self._record

    def encode_query(self, texts: Sequence[str]) -> Vectors:
        """Unit rows float32 [n, dim], with the folder's prompt for queries."""
        try:
            return self._for(texts).encode_query(texts)
        except ValueError as error:
            raise _told(error) from error

    def encode_document(self, texts: Sequence[str]) -> tuple[Vectors, Counts]:
        """Unit rows float32 [n, dim], and the tokens that each text lost: int32 [n]."""
        try:
            return self._for(texts).encode_document(texts)
        except ValueError as error:
            raise _told(error) from error

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Where each token begins and ends in the text, in characters."""
        return (self._loaded or self._numpy).offsets(text)


def _told(error: ValueError) -> Exception:
    """Damaged weights, where it is not the question."""
    return error if isinstance(error, QueryError | ModelError) else ModelError(str(error))


def find_recorded(record: Mapping[str, Any]) -> FoundModel:
    """The model of a manifest on this machine: where it was, else by its name."""
    folder = Path(record.get("folder", ""))
    if record.get("folder") and (folder / "config.json").is_file():
        return FoundModel(record["name"], folder, "the index")
    if "folder" not in record:
        raise ValueError(
            f"the index was built with an encoder of its own ({record['name']}); "
            "pass it: Searcher(..., encoder=...)"
        )
    return find_model(record["name"], hub=False)


def check_same(record: Mapping[str, Any], folder: Path, fingerprint: str) -> None:
    """ModelError where what was found is not what built the index."""
    if fingerprint != record["fingerprint"]:
        raise ModelError(
            f"the index was built with {record['name']} (fingerprint "
            f"{record['fingerprint'][:12]}), but {folder} is another model (fingerprint "
            f"{fingerprint[:12]}); bring the first one back or build the index again"
        )


def reason(error: Exception) -> str:
    """Why a model cannot be loaded, for a person."""
    if isinstance(error, KeyError):
        return f"the model's configuration lacks {error}"
    return str(error)
