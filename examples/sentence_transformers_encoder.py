"""Bring an encoder of your own: here any sentence-transformers model, of whatever body.

    python examples/sentence_transformers_encoder.py MODEL_NAME_OR_FOLDER

An encoder is any object with the few members of ``retrieval.TextEncoder``; nothing is inherited.
"""

import sys
import tempfile
from collections.abc import Sequence

import numpy as np
from sentence_transformers import SentenceTransformer

from retrieval import Document, Searcher, build_index


class SentenceTransformersEncoder:
    """A sentence-transformers model behind the protocol of ``retrieval``."""

    def __init__(self, name: str) -> None:
        self._model = SentenceTransformer(name)
        self.dim = int(self._model.get_embedding_dimension())
        self.max_length = int(self._model.max_seq_length)
        # An index refuses another model by this name: let it say which weights these are.
        self.fingerprint = f"sentence-transformers:{name}:{self.max_length}"

    def encode_query(self, texts: Sequence[str]) -> np.ndarray:
        return self._model.encode_query(list(texts), normalize_embeddings=True)

    def encode_document(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        vectors = self._model.encode_document(list(texts), normalize_embeddings=True)
        tokens = [len(self._model.tokenizer(text)["input_ids"]) for text in texts]
        return vectors, np.maximum(0, np.array(tokens, np.int32) - self.max_length)

    def offsets(self, text: str) -> list[tuple[int, int]]:
        encoded = self._model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return encoded["offset_mapping"]


def main(name: str) -> None:
    documents = [
        Document("tea", "Pour water just off the boil over the leaves and wait three minutes."),
        Document("bread", "Knead the dough until it is smooth, then let it rise in a warm place."),
        Document("bike", "Shift down before the hill, not on it."),
    ]
    encoder = SentenceTransformersEncoder(name)
    with tempfile.TemporaryDirectory() as folder:
        build_index(documents, folder, encoder=encoder)
        hit = Searcher(folder, encoder=encoder).search("how do I bake?", k=1)[0]
    print(f"{hit.id} ({hit.score:.3f}): {hit.text}")


if __name__ == "__main__":
    main(*sys.argv[1:])
