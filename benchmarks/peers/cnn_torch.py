"""A CNN of 1.98 million parameters in PyTorch: training pictures of 32x32 a second, as JSON.

    python benchmarks/peers/cnn_torch.py

In float32 and bfloat16, each with channels first and last. Needs torch, and nothing of this
project.
"""

import json
import time
from itertools import product

import torch
from torch import nn

BATCH, STEPS = 256, 8


def main() -> None:
    """Times each of the four settings."""
    for precision, channels_last in product(("float32", "bfloat16"), (False, True)):
        rate = speed(precision == "bfloat16", channels_last)
        figures = {"peer": "torch", "precision": precision, "channels_last": channels_last}
        print(json.dumps(figures | {"images_per_second": round(rate, 1)}))


def speed(bfloat16: bool, channels_last: bool) -> float:
    """Pictures a second, after a step to warm up."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = network().to(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True)
    pictures = torch.randn(BATCH, 3, 32, 32).to(memory_format=layout)
    labels = torch.randint(0, 10, (BATCH,))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = nn.functional.cross_entropy(model(pictures), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    return STEPS * BATCH / (time.perf_counter() - start)


def network() -> nn.Sequential:
    """The net of Jordan 2024 (arXiv 2404.00498), from random weights."""
    return nn.Sequential(
        nn.Conv2d(3, 24, 2),
        nn.GELU(),
        block(24, 64),
        block(64, 256),
        block(256, 256),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions, with half the pixels after the first."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding="same", bias=False),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(outputs),
        nn.GELU(),
        nn.Conv2d(outputs, outputs, 3, padding="same", bias=False),
        nn.BatchNorm2d(outputs),
        nn.GELU(),
    )


if __name__ == "__main__":
    main()
