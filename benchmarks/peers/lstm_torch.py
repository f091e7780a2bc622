"""Two LSTM layers of 128 on 96 steps of 7 features in PyTorch: training speed, as JSON.

    python benchmarks/peers/lstm_torch.py

Needs torch, and nothing of this project.
"""

import json
import time

import torch

BATCH, BATCHES, STEPS, FEATURES, UNITS, HORIZON = 64, 40, 96, 7, 128, 24


class Forecaster(torch.nn.Module):
    """The last step's features, as a forecast."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(FEATURES, UNITS, 2, batch_first=True)
        self.head = torch.nn.Linear(UNITS, HORIZON)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(steps)[0][:, -1])


def main() -> None:
    """Trains an epoch to warm up, and times the next."""
    model = Forecaster()
    optimizer = torch.optim.Adam(model.parameters())
    histories = torch.randn(BATCHES, BATCH, STEPS, FEATURES)
    futures = torch.randn(BATCHES, BATCH, HORIZON)

    def epoch() -> None:
        for history, future in zip(histories, futures, strict=True):
            loss = ((model(history) - future) ** 2).mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    epoch()
    start = time.perf_counter()
    epoch()
    rate = BATCHES * BATCH / (time.perf_counter() - start)
    print(json.dumps({"peer": "torch", "sequences_per_second": round(rate, 1)}))


if __name__ == "__main__":
    main()
