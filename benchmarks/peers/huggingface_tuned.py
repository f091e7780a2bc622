"""Hugging Face and PyTorch as an expert would set them up: training examples a second, as JSON.

    python benchmarks/peers/huggingface_tuned.py --weights DIR --train FILE --dtype float32

Texts are tokenized and turned to tensors beforehand, batches are of like length, AdamW is fused. On
machines that don't multiply bfloat16 natively float32 is the faster dtype. Needs torch,
transformers and pandas, and nothing of this project.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

BATCH, WINDOW, MAX_LENGTH, WARMUP = 32, 1024, 64, 512


def main() -> None:
    """Trains a few batches to warm up, then times the rest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--train", required=True)
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--label-column", default="category")
    parser.add_argument("--examples", type=int, default=2048)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    frame = pd.read_csv(arguments.train)
    labels, names = pd.factorize(frame[arguments.label_column], sort=True)
    picked = np.random.RandomState(0).permutation(len(frame))[: arguments.examples + WARMUP]
    texts = frame[arguments.text_column].iloc[picked].tolist()
    sorted_batches = list(batched(texts, labels[picked], arguments.weights))
    order = np.random.RandomState(1).permutation(len(sorted_batches))
    batches = [sorted_batches[index] for index in order]

    model = AutoModelForSequenceClassification.from_pretrained(
        arguments.weights, num_labels=len(names)
    ).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, weight_decay=0.01, fused=True)

    def step(batch: dict[str, torch.Tensor]) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.dtype == "bfloat16"):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    warmup = WARMUP // BATCH
    for batch in batches[:warmup]:
        step(batch)
    start = time.perf_counter()
    for batch in batches[warmup:]:
        step(batch)
    seconds = time.perf_counter() - start
    examples = sum(len(batch["labels"]) for batch in batches[warmup:])
    figures = {
        "peer": "huggingface",
        "precision": f"tuned {arguments.dtype}",
        "examples_per_second": round(examples / seconds, 1),
    }
    print(json.dumps(figures))


def batched(
    texts: list[str], labels: np.ndarray, weights: str
) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of texts of like length, padded to the longest of each."""
    tokenizer = AutoTokenizer.from_pretrained(weights)
    encoded = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)
    lengths = np.array([len(ids) for ids in encoded["input_ids"]])
    for window in range(0, len(texts), WINDOW):
        order = window + np.argsort(lengths[window : window + WINDOW], kind="stable")
        for first in range(0, len(order) - len(order) % BATCH, BATCH):
            rows = order[first : first + BATCH]
            inputs = {key: [encoded[key][row] for row in rows] for key in encoded}
            batch = dict(tokenizer.pad(inputs, return_tensors="pt"))
            batch["labels"] = torch.tensor(labels[rows])
            yield batch


if __name__ == "__main__":
    main()
