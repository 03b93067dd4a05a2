"""Bring an attention of your own: this one goes through the keys in blocks, as FlashAttention does,
and never holds a whole row of weights.

    python examples/custom_attention.py [folder to save in]
"""

import sys
import tempfile

import torch
import torch.nn.functional as F

from miniformer import Transformer, TransformerConfig
from miniformer.model.attention import ATTENTIONS, MultiHeadAttention, merge_heads, split_heads

BLOCK = 4


class FlashAttention(MultiHeadAttention):
    def forward(self, q, k, v, mask=None, past_kv=None, use_cache=False):
        if past_kv is not None or use_cache:
            return super().forward(q, k, v, mask, past_kv, use_cache)
        queries = self.rotate(split_heads(self.wq(q), self.n_heads), 0) * self.scale
        keys, values = self.project(k, v, 0)
        top = queries.new_full((*queries.shape[:3], 1), float("-inf"))
        total, mixed = torch.zeros_like(top), torch.zeros_like(queries)
        for start in range(0, keys.size(2), BLOCK):
            block = slice(start, start + BLOCK)
            scores = queries @ keys[:, :, block].transpose(-1, -2)
            if mask is not None:
                scores = scores.masked_fill(~mask[..., block], -1e9)
            new_top = torch.maximum(top, scores.amax(-1, keepdim=True))
            powers, kept = (scores - new_top).exp(), (top - new_top).exp()
            total = total * kept + powers.sum(-1, keepdim=True)
            mixed = mixed * kept + powers @ values[:, :, block]
            top = new_top
        return self.wo(merge_heads(mixed / total)), None, None


ATTENTIONS["flash"] = FlashAttention


def main(folder):
    torch.manual_seed(0)
    config = TransformerConfig(vocab_size=20, attention="flash", rotary_pct=1.0, dropout=0.0)
    model = Transformer(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(200):  # say each token's neighbour on the left
        ids = torch.randint(3, 20, (32, 10))
        loss = F.cross_entropy(model(ids)[:, 1:].flatten(0, 1), ids[:, :-1].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in (0, 199):
            print(f"step {step}: loss {loss.item():.3f}")
    model.eval().save_pretrained(folder)
    loaded = Transformer.from_pretrained(folder)
    print("loaded equals saved:", torch.equal(loaded(ids), model(ids)))
    # By configuration alone, the same weights run through the library's own attention.
    plain = Transformer(TransformerConfig(**{**config.to_dict(), "attention": "multi_head"})).eval()
    plain.load_state_dict(model.state_dict())
    print(f"from the plain attention: {(plain(ids) - model(ids)).abs().max().item():.1e}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(sys.argv[1] if len(sys.argv) > 1 else scratch)
