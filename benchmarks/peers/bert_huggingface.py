"""Hugging Face and PyTorch as their guides have it: training examples a second, latency, accuracy.

    python benchmarks/peers/bert_huggingface.py --weights DIR --train FILE     # float32, bfloat16
    python benchmarks/peers/bert_huggingface.py --weights DIR --latency
    python benchmarks/peers/bert_huggingface.py --weights DIR --train FILE --test FILE --epochs 8

Each figure is a line of JSON. Batches are tokenized as they come, and padded to their longest text;
`huggingface_tuned.py` does better. Needs torch, transformers and pandas, and nothing of this
project.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pandas as pd
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    get_linear_schedule_with_warmup,
)

BATCH, MAX_LENGTH, WARMUP, CALLS = 32, 64, 128, 30


def main() -> None:
    """Measures what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--train", help="CSV with the columns text and category")
    parser.add_argument("--test", help="the same, to judge each epoch by")
    parser.add_argument("--examples", type=int, default=2048)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--latency", action="store_true")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    if arguments.latency:
        latency(arguments.weights)
    elif arguments.epochs:
        accuracy(arguments)
    else:
        speed(arguments)


class Classifier:
    """A pretrained model with a new head, its optimizer, and steps of training."""

    def __init__(self, weights: str, classes: int, rate: float = 1e-4, steps: int = 10_000) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(weights)
        self.model = AutoModelForSequenceClassification.from_pretrained(weights, num_labels=classes)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), rate, weight_decay=0.01)
        self.schedule = get_linear_schedule_with_warmup(self.optimizer, steps // 10, steps)

    def encode(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """A batch of texts as the model takes them."""
        options = {"padding": True, "truncation": True, "max_length": MAX_LENGTH}
        return self.tokenizer(list(texts), return_tensors="pt", **options)

    def step(self, texts: Sequence[str], labels: np.ndarray, bfloat16: bool) -> None:
        """Trains on a batch."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            loss = self.model(**self.encode(texts), labels=torch.tensor(labels)).loss
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()


def speed(arguments: argparse.Namespace) -> None:
    """Training examples a second, in float32 and in bfloat16."""
    frame = pd.read_csv(arguments.train).sample(frac=1, random_state=0)
    labels, names = pd.factorize(frame["category"], sort=True)
    texts = frame["text"].tolist()
    for precision in ("float32", "bfloat16"):
        classifier = Classifier(arguments.weights, len(names))
        classifier.model.train()

        def train(count: int, classifier=classifier, bfloat16=precision == "bfloat16") -> None:
            for first in range(0, count, BATCH):
                rows = slice(first, first + BATCH)
                classifier.step(texts[rows], labels[rows], bfloat16)

        train(WARMUP)
        start = time.perf_counter()
        train(arguments.examples)
        rate = arguments.examples / (time.perf_counter() - start)
        say(precision=precision, examples_per_second=round(rate, 1))


def latency(weights: str) -> None:
    """Milliseconds from strings to logits: the mean of some calls."""
    classifier = Classifier(weights, 77)
    classifier.model.eval()
    with torch.no_grad():
        for size in (1, 32):
            texts = ["How do I activate my new card?"] * size
            for _ in range(3):
                classifier.model(**classifier.encode(texts))
            start = time.perf_counter()
            for _ in range(CALLS):
                classifier.model(**classifier.encode(texts))
            seconds = (time.perf_counter() - start) / CALLS
            say(batch=size, milliseconds=round(1000 * seconds, 2))


def accuracy(arguments: argparse.Namespace) -> None:
    """Test accuracy after each epoch of training in bfloat16, and the seconds until then."""
    train, test = pd.read_csv(arguments.train), pd.read_csv(arguments.test)
    labels, names = pd.factorize(train["category"], sort=True)
    truth = names.get_indexer(test["category"])
    texts, steps = train["text"].to_numpy(), arguments.epochs * (len(train) // BATCH + 1)
    classifier = Classifier(arguments.weights, len(names), 2e-4, steps)
    seconds = 0.0
    for epoch in range(arguments.epochs):
        classifier.model.train()
        order = np.random.RandomState(epoch).permutation(len(train))
        start = time.perf_counter()
        for first in range(0, len(train), BATCH):
            rows = order[first : first + BATCH]
            classifier.step(texts[rows], labels[rows], True)
        seconds += time.perf_counter() - start
        classifier.model.eval()
        with torch.no_grad():
            answers = [
                classifier.model(**classifier.encode(test["text"][first : first + 64])).logits
                for first in range(0, len(test), 64)
            ]
        right = float((torch.cat(answers).argmax(1).numpy() == truth).mean())
        say(epoch=epoch + 1, train_seconds=round(seconds, 1), test_accuracy=round(right, 4))


def say(**figures: object) -> None:
    """Prints figures as a line of JSON."""
    print(json.dumps({"peer": "huggingface", **figures}), flush=True)


if __name__ == "__main__":
    main()
