"""An encoder of ours under MTEB's protocol: its tasks measure it as any other model.

    python examples/mteb_encoder.py NanoSciFactRetrieval [MODEL]

needs `pip install mteb`, and the network for the task's texts.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from retrieval import Encoder


class MTEBEncoder:
    """What ``mteb.evaluate`` asks of a model (mteb 2, ``mteb.EncoderProtocol``)."""

    def __init__(self, model: str = "all-MiniLM-L6-v2", revision: str | None = None, **how: Any):
        self.encoder, self.name = Encoder(model, **how), model

    @property
    def mteb_model_meta(self) -> Any:
        """The name that stands in the results."""
        from mteb.models import ModelMeta

        return ModelMeta.create_empty({"name": f"miniformer/{self.name.rsplit('/')[-1]}"})

    def encode(
        self, inputs: Iterable[Mapping[str, Sequence[str]]], *, prompt_type: Any = None, **_: Any
    ) -> np.ndarray:
        """Unit rows float32 [n, dim] of batches of texts; queries and documents with the prompts
        that the model's folder has for them.
        """
        texts = [text for batch in inputs for text in batch["text"]]
        if getattr(prompt_type, "value", prompt_type) == "query":
            return self.encoder.encode_query(texts)
        if prompt_type is None:
            return self.encoder.encode(texts)
        return self.encoder.encode_document(texts)[0]

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines [n, m], of the type that ``mteb`` computes with."""
        import torch

        one, other = (torch.as_tensor(np.asarray(e)) for e in (embeddings1, embeddings2))
        return one @ other.T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines [n] of rows with rows."""
        import torch

        one, other = (torch.as_tensor(np.asarray(e)) for e in (embeddings1, embeddings2))
        return (one * other).sum(dim=-1)


if __name__ == "__main__":
    import mteb

    task, *model = sys.argv[1:]
    print(mteb.evaluate(MTEBEncoder(*model), mteb.get_tasks(tasks=[task])).to_dataframe())
