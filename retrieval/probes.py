"""A few texts and their vectors, kept in every index: do we still agree with who built it?"""

import base64
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from indexes.manifest import Content
from retrieval.encoding import TextEncoder, Vectors, model_record
from retrieval.errors import ModelError

# Two scripts, code, a single letter, and one text that is longer than the model reads.
PROBES = (
    "How do decorators work?",
    "The quick brown fox jumps over the lazy dog.",
    "Transmission of heat through a boundary layer at high speed",
    "日本語の文章を検索する",
    "Ça coûte 12,50 € à l'entrée – naïve façade",
    "def main(): return {'answer': 42}",
    "x",
    "a long passage about one thing and then another; " * 40,
)
# The least cosine at which two vectors of one text agree, by the number format of either encoder.
LEAST_COSINE = {"float32": 0.9999, "bfloat16": 0.998}


def make_probes(encoder: TextEncoder) -> list[dict[str, str]]:
    """The probe texts with their vectors as base64 of float32, little-endian."""
    vectors, _ = encoder.encode_document(PROBES)
    raw = np.ascontiguousarray(vectors, "<f4")
    return [
        {"text": text, "vector": base64.b64encode(vector.tobytes()).decode()}
        for text, vector in zip(PROBES, raw, strict=True)
    ]


def check_probes(content: Content, encoder: TextEncoder | None) -> tuple[str, list[str]]:
    """Encode the probe texts of an index again: how they compare, and what is wrong, a line each.

    Without ``encoder`` the model is the one that the index names, where it is on this machine.
    ModelError when ``encoder`` is another one.
    """
    if not content.probes:
        return "not checked: the index has no probe texts", []
    if encoder is not None and encoder.fingerprint != content.model["fingerprint"]:
        raise ModelError(
            f"the index was built with {content.model.get('name')}, not with "
            f"{type(encoder).__name__}: another fingerprint"
        )
    if encoder is None:
        from retrieval.assembly import Encoder  # torch, only where a text is encoded

        try:
            encoder = Encoder.from_record(content.model)
        except ModelError as error:
            return f"not checked: {error}", []
    try:
        stored = _stored_vectors(content)
        again, _ = encoder.encode_document([probe["text"] for probe in content.probes])
    except (ModelError, ValueError, KeyError) as error:
        return "failed", [f"holds probe texts that cannot be compared: {error}"]
    cosines = _cosines(stored, again)
    dtypes = (content.model.get("dtype"), model_record(encoder).get("dtype"))
    least = min(LEAST_COSINE.get(str(dtype), LEAST_COSINE["float32"]) for dtype in dtypes)
    wrong = list(_disagreements(content, cosines, least))
    return f"{len(cosines) - len(wrong)} of {len(cosines)}, least cosine {cosines.min():.6f}", wrong


def _stored_vectors(content: Content) -> Vectors:
    """The vectors of the probe texts, float32 [n, dim]; ValueError when one is none."""
    rows = [np.frombuffer(base64.b64decode(p["vector"]), "<f4") for p in content.probes]
    for number, row in enumerate(rows):
        if row.shape != (content.dim,) or not abs(np.linalg.norm(row) - 1) < 1e-3:
            raise ValueError(f"probe {number} has no vector of {content.dim} numbers and length 1")
    return np.stack(rows)


def _cosines(ours: Vectors, theirs: Vectors) -> npt.NDArray[np.float64]:
    """Row by row."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines: npt.NDArray[np.float64] = (a * b).sum(axis=1) / lengths
    return cosines


def _disagreements(
    content: Content, cosines: npt.NDArray[np.float64], least: float
) -> Iterator[str]:
    for probe, cosine in zip(content.probes, cosines, strict=True):
        if not cosine >= least:
            yield (
                f"keeps a vector of the probe text {probe['text'][:40]!r} at cosine {cosine:.4f} "
                f"to what the model gives here now, expected {least}: check the model's files, "
                "or build the index again"
            )
