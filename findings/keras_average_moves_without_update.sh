#!/usr/bin/env bash
# keras 3.15.1: with gradient_accumulation_steps, use_ema's average moves where no weight does.
# Expected: "model & optimizer variables will not be updated at every step; instead they will be
#   updated every `gradient_accumulation_steps` steps" (docstring of the optimizers). The average is
#   one of the optimizer's variables, so that after n updates it is what n batches without
#   accumulation give.
# Seen: it moves at every batch: with k gathered batches a momentum m acts as m ** k.
# Why it matters: --train.ema would mean another horizon with each --train.accumulate.
# Here: tasks/engine/training/optimizers.py moves it with the updates alone (`_Gathering`).
set -euo pipefail
. "$(dirname "$0")/environment" keras==3.15.1 tensorflow==2.21.0

"$PYTHON" - <<'PY'
import sys

import keras


def averages(gathered: int | None, batches: int) -> list[tuple[float, float]]:
    """The weight and its average after each batch; an update adds 1 to the weight."""
    weight = keras.Variable(0.0)
    optimizer = keras.optimizers.SGD(
        1.0, use_ema=True, ema_momentum=0.5, gradient_accumulation_steps=gathered
    )
    optimizer.build([weight])
    average = next(v for v in optimizer.variables if "average" in v.path)
    steps = []
    for _ in range(batches):
        optimizer.apply([keras.ops.array(-1.0)])
        steps.append((float(weight), float(average)))
    return steps


plain, gathering = averages(None, 3), averages(2, 6)
print("one batch an update: (weight, average)", plain)
print("two batches an update:", gathering)
noted = [(0.0, 0.0), (1.0, 1.0), (1.0, 1.0), (2.0, 1.5), (2.0, 1.75), (3.0, 2.375)]
holds = plain == [(1.0, 1.0), (2.0, 1.5), (3.0, 2.25)] and gathering == noted
print("as noted" if holds else "the behaviour has changed")
sys.exit(not holds)
PY
