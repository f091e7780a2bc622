"""Decoding by CTranslate2 (C++), with a random translator of 4+4 layers, 128 wide: time, as JSON.

    python benchmarks/peers/nmt_decode_ctranslate2.py

1,000 sources of 8 to 20 tokens, in batches of 64, are answered by exactly 16 tokens each, so that
the weights do not matter. Needs ctranslate2 and NumPy, and nothing of this project.
"""

import json
import random
import tempfile
import time

import ctranslate2
import numpy as np
from ctranslate2.specs import common_spec, transformer_spec

VOCABULARY, WIDTH, INNER, HEADS, LAYERS = 9000, 128, 256, 4, 4
SENTENCES, BATCH, CALLS = 1000, 64, 20
FIXED = {"max_decoding_length": 16, "min_decoding_length": 16}
WORDS = ["<blank>", "<s>", "</s>", "<unk>", *(f"t{index}" for index in range(VOCABULARY - 4))]


def main() -> None:
    """Times a beam of one and of five, and one sentence alone."""
    draw = random.Random(0)
    lengths = [draw.randint(8, 20) for _ in range(SENTENCES)]
    sources = [draw.choices(WORDS[4:], k=length) for length in lengths]
    with tempfile.TemporaryDirectory() as folder:
        specification().save(folder)
        options = {"compute_type": "float32", "inter_threads": 1, "intra_threads": 2}
        translator = ctranslate2.Translator(folder, device="cpu", **options)
    for beam in (1, 5):
        translator.translate_batch(sources[:BATCH], beam_size=beam, **FIXED)
        start = time.perf_counter()
        translator.translate_batch(sources, max_batch_size=BATCH, beam_size=beam, **FIXED)
        say(beam=beam, sentences=SENTENCES, seconds=round(time.perf_counter() - start, 2))
    start = time.perf_counter()
    for _ in range(CALLS):
        translator.translate_batch(sources[:1], beam_size=1, **FIXED)
    milliseconds = (time.perf_counter() - start) / CALLS * 1000
    say(beam=1, sentences=1, milliseconds=round(milliseconds, 2))


def specification() -> transformer_spec.TransformerSpec:
    """The translator with random weights."""
    spec = transformer_spec.TransformerSpec.from_config(
        (LAYERS, LAYERS), HEADS, pre_norm=True, activation=common_spec.Activation.RELU
    )
    draw = np.random.RandomState(0)

    def dense(layer: common_spec.LinearSpec, outputs: int, inputs: int) -> None:
        layer.weight = draw.randn(outputs, inputs).astype("f") * inputs**-0.5
        layer.bias = np.zeros(outputs, "f")

    def norm(layer: common_spec.LayerNormSpec) -> None:
        layer.gamma, layer.beta = np.ones(WIDTH, "f"), np.zeros(WIDTH, "f")

    for side in (spec.encoder, spec.decoder):
        norm(side.layer_norm)
        embeddings = side.embeddings
        table = embeddings[0] if isinstance(embeddings, list) else embeddings
        table.weight = draw.randn(VOCABULARY, WIDTH).astype("f") * 0.1
        side.scale_embeddings = True
        for block in side.layer:
            norm(block.self_attention.layer_norm)
            dense(block.self_attention.linear[0], 3 * WIDTH, WIDTH)
            dense(block.self_attention.linear[1], WIDTH, WIDTH)
            if side is spec.decoder:
                norm(block.attention.layer_norm)
                dense(block.attention.linear[0], WIDTH, WIDTH)
                dense(block.attention.linear[1], 2 * WIDTH, WIDTH)
                dense(block.attention.linear[2], WIDTH, WIDTH)
            norm(block.ffn.layer_norm)
            dense(block.ffn.linear_0, INNER, WIDTH)
            dense(block.ffn.linear_1, WIDTH, INNER)
    dense(spec.decoder.projection, VOCABULARY, WIDTH)
    spec.register_source_vocabulary(WORDS)
    spec.register_target_vocabulary(WORDS)
    spec.validate()
    return spec


def say(**figures: object) -> None:
    """Prints figures as a line of JSON."""
    print(json.dumps({"peer": "ctranslate2", **figures}))


if __name__ == "__main__":
    main()
