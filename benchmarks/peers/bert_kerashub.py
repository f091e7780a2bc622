"""KerasHub's BertTextClassifier as its guide has it: training examples a second, as JSON.

    python benchmarks/peers/bert_kerashub.py --weights DIR --train FILE

Needs keras-hub, pandas and TensorFlow, and nothing of this project.
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_hub
import pandas as pd
import tensorflow as tf

BATCH, MAX_LENGTH, WARMUP = 32, 64, 4


def main() -> None:
    """Trains some batches to warm up, then times the rest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--train", required=True, help="CSV with the columns text and category")
    parser.add_argument("--examples", type=int, default=2048)
    parser.add_argument("--policy", default="float32")
    parser.add_argument("--xla", default="auto", choices=["auto", "yes", "no"])
    arguments = parser.parse_args()

    keras.config.set_dtype_policy(arguments.policy)
    keras.utils.set_random_seed(0)
    frame = pd.read_csv(arguments.train).sample(frac=1, random_state=0)
    labels, names = pd.factorize(frame["category"], sort=True)
    model = keras_hub.models.BertTextClassifier(
        keras_hub.models.BertBackbone.from_preset(arguments.weights),
        num_classes=len(names),
        preprocessor=keras_hub.models.BertTextClassifierPreprocessor(
            keras_hub.models.BertTokenizer.from_preset(arguments.weights),
            sequence_length=MAX_LENGTH,
        ),
        dropout=0.1,
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(1e-4),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile={"auto": "auto", "yes": True, "no": False}[arguments.xla],
    )
    texts = frame["text"].to_numpy(dtype=str)
    data = tf.data.Dataset.from_tensor_slices((texts, labels)).batch(BATCH).prefetch(2)
    model.fit(data.take(WARMUP), verbose=0)
    start = time.perf_counter()
    model.fit(data.take(arguments.examples // BATCH), verbose=0)
    rate = arguments.examples / (time.perf_counter() - start)
    figures = {"peer": "kerashub", "policy": arguments.policy, "xla": arguments.xla}
    print(json.dumps(figures | {"examples_per_second": round(rate, 1)}))


if __name__ == "__main__":
    main()
