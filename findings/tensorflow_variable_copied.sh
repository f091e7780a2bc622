#!/usr/bin/env bash
# tensorflow 2.21.0: after one `tf.gather(variable, ids)`, each plain read of it copies the whole.
# Expected: by the documentation of tf.gather and tf.Variable, that a gather changes nothing for
#   later reads. Only the raw op DisableCopyOnRead mentions the mode, and leaves it again.
# Seen: a read of 200 MB goes from microseconds to tens of milliseconds, for good. A gather from
#   `tf.convert_to_tensor(variable)` does no such thing.
# Why it matters: a table that is gathered from, and multiplied with elsewhere, is copied at each
#   step.
# Here: zoo/layers/vocabulary.py either only gathers from a table or only reads it whole.
set -euo pipefail
. "$(dirname "$0")/environment" tensorflow==2.21.0

"$PYTHON" - <<'PY'
import sys
import time

import tensorflow as tf

variable = tf.Variable(tf.zeros([50_000, 1_000]))  # 200 MB


def seconds() -> float:
    """Of the quickest read in five."""
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        variable.read_value()
        taken.append(time.perf_counter() - start)
    return min(taken)


before = seconds()
tf.gather(tf.convert_to_tensor(variable), [1, 2])
after_tensor = seconds()
tf.gather(variable, [1, 2])
after_variable = seconds()
tf.raw_ops.DisableCopyOnRead(resource=variable.handle)
after_leaving = seconds()
print(f"a read of 200 MB: {before:.6f} s")
print(f"after a gather from the tensor: {after_tensor:.6f} s")
print(f"after a gather from the variable: {after_variable:.6f} s")
print(f"after DisableCopyOnRead: {after_leaving:.6f} s")
copied = [taken > 5 * before for taken in (after_tensor, after_variable, after_leaving)]
holds = copied == [False, True, False]
print("as noted" if holds else "the behaviour has changed")
sys.exit(not holds)
PY
