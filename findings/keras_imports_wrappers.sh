#!/usr/bin/env bash
# keras 3.15.1: `import keras` imports scikit-learn, pandas and matplotlib, where installed;
#   so does `import tensorflow` (2.21.0), which imports keras.
# Expected: that they are imported by who uses them. None of them is among the packages that keras
#   requires; its scikit-learn wrappers, data adapters and plots are what they are for.
# Seen: all three are in sys.modules after either import.
# Why it matters: a command line pays for it at each start, a third of the import or more.
# Here: tasks/engine/quiet.py hides them while keras is imported.
set -euo pipefail
. "$(dirname "$0")/environment" keras==3.15.1 tensorflow==2.21.0 scikit-learn==1.9.1 \
    pandas==3.1.1 matplotlib==3.11.2

cat > timed.py <<'PY'
import importlib
import sys
import time

module, hidden = sys.argv[1], sys.argv[2:] == ["hidden"]
names = ["sklearn", "pandas", "matplotlib"]
if hidden:
    sys.modules.update(dict.fromkeys(names))  # None, which makes an import fail
start = time.perf_counter()
importlib.import_module(module)
seconds = time.perf_counter() - start
found = [name for name in names if sys.modules.get(name)]
print(f"import {module}{', them hidden' if hidden else ''}: {seconds:.1f} s, imports {found}")
holds = found == ([] if hidden else names)
print("as noted" if holds else "the behaviour has changed")
sys.exit(not holds)
PY
"$PYTHON" -c "import keras"  # so that files are in memory, and compiled
"$PYTHON" timed.py tensorflow
"$PYTHON" timed.py keras
"$PYTHON" timed.py keras hidden
