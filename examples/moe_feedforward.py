"""Bring a feed-forward network of your own: a mixture of experts, two of which see each token.

python examples/moe_feedforward.py [folder to save in]
"""

import sys
import tempfile

import torch
import torch.nn.functional as F
from torch import nn

from miniformer import Transformer, TransformerConfig
from miniformer.model.feedforward import FEEDFORWARDS, FeedForward

ACTIVE = 2


class MoEFeedForward(FeedForward):
    def __init__(self, d_model, d_ff, num_experts=4, **kwargs):
        super().__init__(d_model, d_ff, **kwargs)  # the shared expert, which sees every token
        self.router = nn.Linear(d_model, num_experts, bias=False)
        self.experts = nn.ModuleList(
            FeedForward(d_model, d_ff, **kwargs) for _ in range(num_experts)
        )

    def forward(self, x):
        shares, chosen = self.router(x).softmax(-1).topk(ACTIVE, dim=-1)
        output = super().forward(x)
        for number, expert in enumerate(self.experts):
            share = (shares * (chosen == number)).sum(-1)  # 0 where the expert was not chosen
            rows = share > 0
            mixed = share[rows][:, None] * expert(x[rows])
            output = output.index_put((rows,), mixed, accumulate=True)
        return output


FEEDFORWARDS["moe"] = MoEFeedForward


def main(folder):
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=20,
        n_layers=2,
        d_ff=64,
        dropout=0.0,
        causal=True,
        feedforward="moe",
        feedforward_options={"num_experts": 3},
    )
    model = Transformer(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(150):  # continue a sequence that counts upwards
        ids = 3 + (torch.randint(0, 17, (32, 1)) + torch.arange(10)) % 17
        loss = F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in (0, 149):
            print(f"step {step}: loss {loss.item():.3f}")
    model.eval().save_pretrained(folder)
    loaded = Transformer.from_pretrained(folder)
    print("loaded equals saved:", torch.equal(loaded(ids), model(ids)))
    print(
        "4 5 6 goes on:", *loaded.generate(torch.tensor([[4, 5, 6]]), max_new_tokens=4)[0].tolist()
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(sys.argv[1] if len(sys.argv) > 1 else scratch)
