"""A translator of 4+4 layers, 128 wide, in PyTorch: training target tokens a second, as JSON.

    python benchmarks/peers/nmt_torch.py

In float32 and bfloat16. Needs torch, and nothing of this project.
"""

import json
import time

import torch
from torch import nn

VOCABULARY, WIDTH, INNER, HEADS, LAYERS = 9000, 128, 256, 4, 4
BATCH, LENGTH, STEPS = 256, 16, 12


class Translator(nn.Module):
    """An encoder-decoder with one embedding for source, target and output."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        options = {"dropout": 0.3, "batch_first": True, "norm_first": True}
        self.body = nn.Transformer(WIDTH, HEADS, LAYERS, LAYERS, INNER, **options)
        self.mask = nn.Transformer.generate_square_subsequent_mask(LENGTH)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        sides = self.embedding(source), self.embedding(target)
        hidden = self.body(*sides, tgt_mask=self.mask, tgt_is_causal=True)
        return hidden @ self.embedding.weight.T


def main() -> None:
    """Times both precisions."""
    for precision in ("float32", "bfloat16"):
        figures = {"peer": "torch", "precision": precision}
        rate = round(speed(precision == "bfloat16"))
        print(json.dumps(figures | {"target_tokens_per_second": rate}))


def speed(bfloat16: bool) -> float:
    """Target tokens a second, after two steps to warm up."""
    source, target = (torch.randint(0, VOCABULARY, (BATCH, LENGTH)) for _ in range(2))
    model = Translator()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = model(source, target).flatten(0, 1).float()
            loss = nn.functional.cross_entropy(logits, target.flatten(), label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(2):
        step()
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    return STEPS * BATCH * LENGTH / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
