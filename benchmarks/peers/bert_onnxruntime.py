"""A classifier in ONNX Runtime, with Hugging Face's tokenizer: latency in milliseconds, as JSON.

    python benchmarks/peers/bert_onnxruntime.py --weights DIR

Needs torch, transformers, onnx, onnxscript and onnxruntime, and nothing of this project.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import onnxruntime
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

CLASSES, MAX_LENGTH, CALLS = 77, 64, 50


def main() -> None:
    """Times one string and 32 strings, from strings to logits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True)
    answer = answering(parser.parse_args().weights)
    for size in (1, 32):
        texts = ["How do I activate my new card?"] * size
        for _ in range(2):
            answer(texts)
        start = time.perf_counter()
        for _ in range(CALLS):
            answer(texts)
        milliseconds = (time.perf_counter() - start) / CALLS * 1000
        figures = {"peer": "onnxruntime", "batch": size, "milliseconds": round(milliseconds, 2)}
        print(json.dumps(figures))


class Logits(torch.nn.Module):
    """The logits alone."""

    def __init__(self, weights: str) -> None:
        super().__init__()
        self.classifier = AutoModelForSequenceClassification.from_pretrained(
            weights, num_labels=CLASSES
        ).eval()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.classifier(input_ids=input_ids, attention_mask=attention_mask).logits


def answering(weights: str) -> Callable[[list[str]], list]:
    """The classifier, from strings to logits."""
    tokenizer = AutoTokenizer.from_pretrained(weights)
    names = ["input_ids", "attention_mask"]
    sample = tokenizer(["a few words of text", "one"], padding=True, return_tensors="pt")
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "model.onnx"))
        torch.onnx.export(
            Logits(weights),
            tuple(sample[name] for name in names),
            path,
            dynamo=True,
            dynamic_shapes=(dynamic, dynamic),
            input_names=names,
        )
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def answer(texts: list[str]) -> list:
        options = {"padding": True, "truncation": True, "max_length": MAX_LENGTH}
        batch = tokenizer(texts, return_tensors="np", **options)
        return session.run(None, {name: batch[name] for name in names})

    return answer


if __name__ == "__main__":
    main()
