"""A translator of 4+4 layers, 128 wide, of KerasHub's: training target tokens a second, as JSON.

    python benchmarks/peers/nmt_kerashub.py [float32|mixed_bfloat16]

Needs keras-hub and TensorFlow, and nothing of this project.
"""

import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_hub
import numpy as np
import tensorflow as tf

VOCABULARY, WIDTH, INNER, HEADS, LAYERS = 9000, 128, 256, 4, 4
BATCH, LENGTH, STEPS = 256, 16, 12


def main() -> None:
    """Trains two steps to warm up, then times the rest."""
    policy = sys.argv[1] if len(sys.argv) > 1 else "float32"
    keras.config.set_dtype_policy(policy)
    model = translator()
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    ids = np.random.randint(0, VOCABULARY, (BATCH * STEPS, LENGTH))
    data = tf.data.Dataset.from_tensor_slices(((ids, ids), ids)).batch(BATCH)
    model.fit(data.take(2), verbose=0)
    start = time.perf_counter()
    model.fit(data, verbose=0)
    rate = STEPS * BATCH * LENGTH / (time.perf_counter() - start)
    figures = {"peer": "kerashub", "policy": policy, "target_tokens_per_second": round(rate)}
    print(json.dumps(figures))


def translator() -> keras.Model:
    """An encoder-decoder with one embedding for source, target and output."""
    source, target = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    embedding = keras_hub.layers.ReversibleEmbedding(VOCABULARY, WIDTH)
    options = {"dropout": 0.3, "normalize_first": True}
    encoded = embedding(source)
    for _ in range(LAYERS):
        encoded = keras_hub.layers.TransformerEncoder(INNER, HEADS, **options)(encoded)
    decoded = embedding(target)
    for _ in range(LAYERS):
        decoded = keras_hub.layers.TransformerDecoder(INNER, HEADS, **options)(decoded, encoded)
    logits = keras.layers.Activation("linear", dtype="float32")(embedding(decoded, reverse=True))
    return keras.Model([source, target], logits)


if __name__ == "__main__":
    main()
