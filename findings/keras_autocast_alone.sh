#!/usr/bin/env bash
# keras 3.15.1: a layer's autocast=False holds within another layer, but not for the outermost one.
# Expected: the same dtype wherever the layer is called. keras.layers.Embedding sets autocast to
#   False, and Layer.__call__ says of such layers "Clear or update the current scope"; the argument
#   itself has no documentation.
# Seen: under mixed_bfloat16 an Embedding in a model reads its table in float32, and by itself in
#   bfloat16: the whole of it is cast, for however few rows.
# Why it matters: a lookup takes time and memory by the size of the table.
# Here: zoo/layers/vocabulary.py reads the variable under Keras' one (`uncast`), and layers that own
#   weights make each with autocast=False (zoo/layers/transformer.py, zoo/layers/convolution.py).
set -euo pipefail
. "$(dirname "$0")/environment" keras==3.15.1 tensorflow==2.21.0

"$PYTHON" - <<'PY'
import sys

import keras


class Watched(keras.layers.Embedding):
    def call(self, ids):
        self.table_dtype = keras.backend.standardize_dtype(
            keras.ops.convert_to_tensor(self.embeddings).dtype
        )
        return super().call(ids)


keras.config.set_dtype_policy("mixed_bfloat16")
layer = Watched(4, 2)
layer.build()
ids = keras.ops.array([1])
seen = {}
for name, call in (("by itself", layer), ("in a model", keras.Sequential([layer]))):
    call(ids)
    seen[name] = layer.table_dtype
    print(f"autocast={layer.autocast}, {name}: reads its table in {seen[name]}")
noted = {"by itself": "bfloat16", "in a model": "float32"}
holds = seen == noted
print("as noted" if holds else "the behaviour has changed")
sys.exit(not holds)
PY
