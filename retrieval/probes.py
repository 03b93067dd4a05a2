"""A few texts and their vectors, kept in every index: do we still agree with who built it?"""

import base64

import numpy as np

from retrieval.encoding import TextEncoder

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


def make_probes(encoder: TextEncoder) -> list[dict[str, str]]:
    """The probe texts with their vectors as base64 of float32, little-endian."""
    vectors, _ = encoder.encode_document(PROBES)
    raw = np.ascontiguousarray(vectors, "<f4")
    return [
        {"text": text, "vector": base64.b64encode(vector.tobytes()).decode()}
        for text, vector in zip(PROBES, raw, strict=True)
    ]
