"""What a file or folder holds that is no SavedModel, and how to make one of it.

    other_format(Path("best.keras"))     # "a model in Keras' own format, which the server ..."

Told by names alone: nothing is read but the names in a folder.
"""

import re
import shlex
from pathlib import Path

_UNREAD = "which the server does not read"
_EXPORT = '.export("saved_models/NAME/1")'
_KERAS = f'keras.saving.load_model("{{name}}"){_EXPORT}'
_TORCH = (
    f"weights of PyTorch, or of a model in Hugging Face's format, {_UNREAD}; of the latter, train "
    "with --model.preset FOLDER, and export the run"
)
_FILES = {  # by how their names end, the longer endings first
    ".weights.h5": (
        f"weights alone of a Keras model, {_UNREAD}; build the model, "
        f'model.load_weights("{{name}}"), and model{_EXPORT}'
    ),
    ".keras": f"a model in Keras' own format, {_UNREAD}; export it: {_KERAS}",
    ".h5": f"a model, or weights alone, in Keras' older format, {_UNREAD}; export it: {_KERAS}",
    ".hdf5": f"a model, or weights alone, in Keras' older format, {_UNREAD}; export it: {_KERAS}",
    ".tflite": (
        "a LiteRT (TensorFlow Lite) model, which can't be made a SavedModel; export the model that "
        f"it was converted from, as Keras' model{_EXPORT}"
    ),
    ".onnx": (
        f"an ONNX model, {_UNREAD}; export the model that it was converted from, as Keras' "
        f"model{_EXPORT}, or serve it by ONNX Runtime"
    ),
    **dict.fromkeys((".safetensors", ".pt", ".pth", ".bin", ".ckpt"), _TORCH),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".tar.gz"), "an archive; unpack it first"),
}


def other_format(path: Path) -> str | None:
    """What it is and how to export it, as one line; None if it is nothing that is known.

    Raises:
        OSError: the folder can't be read.
    """
    if path.is_dir():
        return _folder(path)
    run = path.parent.parent
    if path.parent.name == "checkpoints" and _is_run(run):
        return f"a checkpoint of a run; {_of_run(run)}"
    name = path.name.lower()
    said = next((said for ending, said in _FILES.items() if name.endswith(ending)), None)
    return said and said.replace("{name}", path.name)


def is_remote(path: Path) -> bool:
    """Whether it was an address, such as gs://bucket/model, of which Path leaves one slash out."""
    return bool(re.match(r"[A-Za-z][\w.+-]+:/", str(path))) and not path.exists()


def _folder(path: Path) -> str | None:
    names = {entry.name for entry in path.iterdir()}
    if _is_run(path):
        return f"a run's folder; {_of_run(path)}"
    if path.name == "checkpoints" and _is_run(path.parent):
        return f"the checkpoints of a run; {_of_run(path.parent)}"
    if "config.json" in names and {"metadata.json", "model.weights.h5", "task.json"} & names:
        return (
            f"a preset in KerasHub's format, {_UNREAD}; train with --model.preset "
            f"{shlex.quote(str(path))}, or "
            f'keras_hub.models.Task.from_preset("{path}"){_EXPORT}'
        )
    if "config.json" in names and any(
        name.endswith((".safetensors", ".bin", "tf_model.h5")) for name in names
    ):
        return (
            f"a model in Hugging Face's format, {_UNREAD}; train with --model.preset "
            f"{shlex.quote(str(path))}, and export the run"
        )
    for name in sorted(names):
        if said := other_format(path / name) if not (path / name).is_dir() else None:
            return f"no saved_model.pb in it; {name} is {said}"
    return None


def _is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file() and (path / "checkpoints").is_dir()


def _of_run(path: Path) -> str:
    return (
        f"export it: python -m tasks.{_task(path)} export --run.dir {shlex.quote(str(path))} "
        "--export.dir saved_models/NAME"
    )


def _task(run: Path) -> str:
    with (run / "config.yaml").open(encoding="utf-8", errors="replace") as lines:
        first = next(lines, "")
    return first.removeprefix("task:").strip() if first.startswith("task:") else "TASK"
