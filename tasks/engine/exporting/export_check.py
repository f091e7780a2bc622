"""Whether the stock TensorFlow Serving image would load a SavedModel, and answer with it.

    problems = check(Path("saved_models/banking77/1"))      # [] if it would
    report = inspect(Path("saved_models/banking77"))        # check by check, of the latest version

Two proofs. `graph_problems` reads the file: ops, XLA, types, assets. `replay_problems` loads the
model as the server does, into a session on the graph tagged `serve`, and sends it the requests of
its warmup file. `inspect` makes both of any SavedModel, for `python -m tasks.export_check`.
"""

import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, saved_model_pb2
from tensorflow.python.eager import context
from tensorflow.python.framework import op_def_registry
from tensorflow.types.experimental import ConcreteFunction

from tasks.engine.exporting.foreign import is_remote, other_format
from tasks.engine.exporting.stock_ops import STOCK_SERVER, linked_ops, stock_ops
from tasks.engine.exporting.warmup_replay import WarmupError, first_line, read_logs, replay
from tasks.engine.quiet import quiet_imports, quiet_tensorflow

SERVE = ("serve",)  # the tags of the graph that a server loads unless it is told otherwise
CHECKS = ("file", "ops", "XLA", "Python", "assets", "loading", "signatures", "warmup", "size")

# What REST reads and writes as JSON: it answers anything else with an error.
_REST_TYPES = {tf.string, tf.bool, tf.float32, tf.float64}
_REST_TYPES |= {tf.int8, tf.int16, tf.int32, tf.int64}
_REST_TYPES |= {tf.uint8, tf.uint32, tf.uint64}
_HALF_TYPES = {tf.half, tf.bfloat16}
_GRPC_TYPES = {tf.uint16, tf.complex64, tf.complex128} | _HALF_TYPES  # what gRPC carries beyond

# What draws anew at each run, and what does so from a seed: anew as well, if a variable holds it.
_RANDOM_OPS = re.compile(
    "Random(Uniform|UniformInt|StandardNormal|Shuffle|Gamma|Poisson|PoissonV2|Crop)"
    "|(Parameterized)?TruncatedNormal|Multinomial|SampleDistortedBoundingBox(V2)?"
    "|Stateful(Uniform.*|StandardNormal.*|TruncatedNormal|RandomBinomial)|.*CandidateSampler"
)
_SEEDED_OPS = re.compile(
    "Stateless(Random(?!Get).*|(Parameterized)?TruncatedNormal.*|Multinomial|Shuffle|SampleDist.*)"
)
_SEED_CHANGES = re.compile("Assign(Add|Sub)?VariableOp|Assign(Add|Sub)?|Rng(ReadAnd)?Skip")

_PYTHON_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
# Ops that open the file which an input names: op -> the input's place.
_FILE_OPS = {"ReadFile": 0, "InitializeTableFromTextFile": 1, "InitializeTableFromTextFileV2": 1}
# What registers the ops that a server links in: the library's name in stock/ begins so -> module.
_OP_MODULES = {
    "tensorflow_text": "tensorflow_text",
    "Decision Forests": "tensorflow_decision_forests",
}
_LEGACY_ASSETS = "saved_model_assets"  # the collection where old TensorFlows list them


@dataclass(frozen=True)
class Finding:
    """What one of the `CHECKS` found."""

    check: str
    # Each keeps the model from loading; of the signatures, from answering some requests.
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: bool = True  # False: an earlier problem made the check impossible


@dataclass(frozen=True)
class Report:
    """All findings about one version of a model."""

    folder: Path
    server: str
    findings: list[Finding]

    @property
    def problems(self) -> list[str]:
        return [problem for finding in self.findings for problem in finding.problems]

    @property
    def notes(self) -> list[str]:
        return [note for finding in self.findings for note in finding.notes]

    @property
    def loads(self) -> bool:
        return not any(f.problems for f in self.findings if f.check != "signatures")

    @property
    def answers(self) -> bool:
        """Whether it loads, and requests can call all of it."""
        return not self.problems


def check(saved_model: Path, server: str = STOCK_SERVER) -> list[str]:
    """What would keep the stock server from loading any SavedModel, in words; empty if nothing."""
    return graph_problems(saved_model, server) or replay_problems(saved_model)


def inspect(folder: Path, server: str = STOCK_SERVER, tags: Sequence[str] = SERVE) -> Report:
    """Every check of one version, also of a SavedModel that is damaged or not ours.

    Args:
        folder: A version's folder, or a model's, whose latest version is taken.
        server: The version of TensorFlow Serving, one of `known_servers()`.
        tags: Of the graph to load, all of them.
    """
    version, notes = _latest_version(folder)
    found: dict[str, Finding] = {}
    try:
        meta_graph = _read_meta_graph(version, tags)
    except _BrokenError as error:
        found["file"] = Finding("file", [str(error)], notes)
    else:
        notes = notes + _reading_notes(version, meta_graph, tags)
        found["file"] = Finding("file", _variable_problems(version, meta_graph), notes)
        found |= _graph_findings(version, meta_graph, server)
        found["signatures"] = _check_signatures(meta_graph)
        found["size"] = _check_size(version, meta_graph)
        if any(found[name].problems for name in found.keys() - {"signatures"}):
            found["signatures"] = replace(found["signatures"], checked=False)
        else:
            found |= _run_findings(version, meta_graph, server, tags, found["signatures"])
    unchecked = {name: Finding(name, checked=False) for name in CHECKS}
    return Report(version, server, list((unchecked | found).values()))


def graph_problems(saved_model: Path, server: str = STOCK_SERVER) -> list[str]:
    """What can be told without loading the model: missing ops, XLA, types, assets.

    Half-precision outputs are among them: few clients read such, and the mend is a cast.
    """
    try:
        meta_graph = _read_meta_graph(saved_model, SERVE)
    except _BrokenError as error:
        return [str(error)]
    findings = _graph_findings(saved_model, meta_graph, server).values()
    problems = [problem for finding in findings for problem in finding.problems]
    signatures = _signatures(meta_graph)
    problems += _type_findings(signatures)[0] + list(_half_outputs(signatures))
    return _variable_problems(saved_model, meta_graph) + problems


def replay_problems(
    saved_model: Path,
    expected: Mapping[str, ConcreteFunction] | None = None,
    tolerance: float = 1e-4,
) -> list[str]:
    """What goes wrong when the model is loaded and sent the requests of its warmup file.

    Args:
        saved_model: The version's folder.
        expected: If given, the functions by signature name that each answer is compared with.
        tolerance: How far floats may be off, relative and absolute; the rest must be equal.
    """
    try:
        logs = read_logs(saved_model)
        with _loaded(saved_model, SERVE) as (session, meta_graph):
            return replay(session, meta_graph, logs, expected, tolerance)
    except (_BrokenError, WarmupError) as error:
        return [str(error)]


class _BrokenError(ValueError):
    """A SavedModel that cannot be read or loaded; the message says why."""


# Reading the file


def _latest_version(folder: Path) -> tuple[Path, list[str]]:
    """The folder itself, or, of a model's folder, its latest version and a note that says so."""
    try:
        if not folder.is_dir() or any(folder.glob("saved_model.*pb*")):
            return folder, []
        versions = {
            int(entry.name): entry
            for entry in folder.iterdir()
            if entry.name.isascii() and entry.name.isdigit() and entry.is_dir()
        }
    except OSError:
        return folder, []
    if not versions:
        return folder, []
    latest = max(versions)
    return versions[latest], [f"version {latest} is the latest of {len(versions)} in {folder}"]


def _read_meta_graph(saved_model: Path, tags: Sequence[str]) -> Any:
    """The graph that a server with these tags loads.

    Raises:
        _BrokenError: there is none, or the file cannot be read.
    """
    proto = _read_saved_model(saved_model)
    for meta_graph in proto.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == set(tags):
            return meta_graph
    there = [" and ".join(graph.meta_info_def.tags) or "nothing" for graph in proto.meta_graphs]
    held = f"it has graphs tagged {'; '.join(there)}" if there else "it holds no graph at all"
    raise _BrokenError(f"no graph is tagged {' and '.join(tags)}: {held}")


def _read_saved_model(saved_model: Path) -> Any:
    binary, text = saved_model / "saved_model.pb", saved_model / "saved_model.pbtxt"
    try:
        if binary.exists():
            return saved_model_pb2.SavedModel.FromString(binary.read_bytes())
        if text.exists():
            return text_format.Parse(text.read_bytes(), saved_model_pb2.SavedModel())
        if is_remote(saved_model):
            raise _BrokenError("remote storage is not read here; copy the model into a folder")
        if not saved_model.exists():
            raise _BrokenError("there is no such folder")
        if said := other_format(saved_model):
            raise _BrokenError(said)
        if not saved_model.is_dir():
            raise _BrokenError(f"a file; give the folder it is in, {saved_model.parent}")
        if (saved_model / "saved_model.cpb").exists():
            raise _BrokenError("saved_model.cpb, a model in chunks, is not read here")
        raise _BrokenError("neither a saved_model.pb in it nor folders of numbered versions")
    except OSError as error:
        raise _BrokenError(f"{error.filename} cannot be read: {error.strerror}") from None
    except DecodeError:
        reason = "truncated, or no SavedModel"
        raise _BrokenError(f"saved_model.pb cannot be parsed: {reason}") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise _BrokenError(f"saved_model.pbtxt cannot be parsed: {first_line(error)}") from None


def _reading_notes(saved_model: Path, meta_graph: Any, tags: Sequence[str]) -> list[str]:
    notes = []
    if meta_graph.meta_info_def.tensorflow_version:
        notes.append(f"saved by TensorFlow {meta_graph.meta_info_def.tensorflow_version}")
    if not (saved_model / "saved_model.pb").exists():
        notes.append("in text format, which the server reads too, though slowly")
    if set(tags) != set(SERVE):
        notes.append(f"the server must be started with --saved_model_tags={','.join(tags)}")
    return notes


def _variable_problems(saved_model: Path, meta_graph: Any) -> list[str]:
    """A graph that restores variables needs their index and every one of their shards."""
    if not meta_graph.HasField("saver_def"):
        return []
    folder = saved_model / "variables"
    if lack := _lack(folder / "variables.index"):
        return [f"it cannot be loaded: variables/variables.index {lack}"]
    there = {path.name for path in folder.glob("variables.data-?????-of-?????")}
    shards = max((int(name[-5:]) for name in there if name[-5:].isdigit()), default=1)
    needed = (f"variables.data-{shard:05}-of-{shards:05}" for shard in range(shards))
    return [
        f"it cannot be loaded: variables/{name} is missing" for name in needed if name not in there
    ]


def _lack(file: Path) -> str | None:
    """What is wrong with a file that should be there."""
    try:
        return None if file.is_file() else "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


# Checks of the graph


def _graph_findings(saved_model: Path, meta_graph: Any, server: str) -> dict[str, Finding]:
    graph = meta_graph.graph_def
    findings = [
        _check_ops(graph, server),
        Finding("XLA", list(_xla_problems(graph))),
        Finding("Python", list(_python_problems(graph, server))),
        Finding("assets", [*_asset_problems(saved_model, meta_graph), *_path_problems(meta_graph)]),
    ]
    return {finding.check: finding for finding in findings}


def _check_ops(graph: Any, server: str) -> Finding:
    own_functions = {function.signature.name for function in graph.library.function}
    known = stock_ops(server) | own_functions
    used, unused = _places(graph)
    lack = f"TensorFlow Serving {server} has no op"
    problems = [f"{lack} {op} (in {used[op]})" for op in sorted(used.keys() - known - _PYTHON_OPS)]
    notes = [
        f"{library}: {', '.join(sorted(names & used.keys()))}"
        for library, names in linked_ops(server).items()
        if names & used.keys()
    ]
    notes += [
        f"{lack} {op}; but it is only in {unused[op]}, which is never called"
        for op in sorted(unused.keys() - used.keys() - known)
    ]
    notes += _device_notes(graph)
    return Finding("ops", problems, notes)


def _device_notes(graph: Any) -> Iterator[str]:
    """Devices that are written into the main graph: a server moves nothing to another one."""
    for device, name in sorted({node.device: node.name for node in graph.node}.items()):
        with suppress(ValueError):
            if tf.DeviceSpec.from_string(device).device_type not in (None, "CPU"):
                yield f"node {name} is bound to {device}: a server without one can't run it"


def _xla_problems(graph: Any) -> Iterator[str]:
    """`jit_compile=True` marks the function, and each node that calls it."""
    called = _called(graph)
    marked = {f.signature.name for f in called if f.attr["_XlaMustCompile"].b}
    nodes = [*graph.node, *(node for function in called for node in function.node_def)]
    marked = marked or {node.name for node in nodes if node.attr["_XlaMustCompile"].b}
    for name in sorted(marked):
        yield f"{name} asks for XLA, which the server has switched off"


def _python_problems(graph: Any, server: str) -> Iterator[str]:
    used, _ = _places(graph)
    for op in sorted(used.keys() & _PYTHON_OPS):
        lack = f"TensorFlow Serving {server} has no op {op} (in {used[op]})"
        yield f"{lack}: it calls Python, which a server has not; use TensorFlow's ops instead"


def _asset_problems(saved_model: Path, meta_graph: Any) -> Iterator[str]:
    for name in sorted({asset.filename for asset in _assets(meta_graph)}):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            yield f"the asset {name} lies outside the folder"
        elif lack := _lack(saved_model / "assets" / path):
            yield f"the asset {name} {lack}"


def _assets(meta_graph: Any) -> list[Any]:
    """The asset files and the tensors of their names, as listed today or by old TensorFlows."""
    listed = list(meta_graph.asset_file_def)
    if not listed and _LEGACY_ASSETS in meta_graph.collection_def:
        for packed in meta_graph.collection_def[_LEGACY_ASSETS].any_list.value:
            asset = meta_graph_pb2.AssetFileDef()
            with suppress(DecodeError):
                if packed.Unpack(asset):
                    listed.append(asset)
    return listed


def _path_problems(meta_graph: Any) -> Iterator[str]:
    """Files that the graph opens by a path that is written into it, which a server has not."""
    graph = meta_graph.graph_def
    replaced = {asset.tensor_info.name.split(":")[0] for asset in _assets(meta_graph)}
    bodies = [("the graph", graph.node)]
    bodies += [(f"function {f.signature.name}", f.node_def) for f in _called(graph)]
    for where, nodes in bodies:
        constants = {node.name: node for node in nodes if node.op == "Const"}
        for node in nodes:
            place = _FILE_OPS.get(node.op)
            if place is None or len(node.input) <= place:
                continue
            source = node.input[place].split(":")[0]
            if source in constants and source not in replaced:
                for name in constants[source].attr["value"].tensor.string_val:
                    if name and b"://" not in name:
                        path = name.decode(errors="replace")
                        yield f"{where} opens the file {path}, outside the folder; make it an asset"


def _places(graph: Any) -> tuple[dict[str, str], dict[str, str]]:
    """One place of each op: of those that can run, and of those in functions no one calls."""
    called = {function.signature.name for function in _called(graph)}
    used: dict[str, str] = {}
    unused: dict[str, str] = {}
    for node in graph.node:
        used.setdefault(node.op, f"node {node.name}")
    for function in graph.library.function:
        name = function.signature.name
        places = used if name in called else unused
        for node in function.node_def:
            places.setdefault(node.op, f"function {name}")
    return used, unused


def _called(graph: Any) -> list[Any]:
    """The functions that the graph calls, through others too: a server never opens the rest."""
    rest = {function.signature.name: function for function in graph.library.function}
    called = []
    waiting = list(graph.node)
    while waiting:
        node = waiting.pop()
        names = [node.op]
        for value in node.attr.values():
            names += [value.func.name, *(function.name for function in value.list.func)]
        for name in names:
            if name in rest:
                function = rest.pop(name)
                called.append(function)
                waiting += function.node_def
    return called


# Checks of the signatures and the size


def _signatures(meta_graph: Any) -> dict[str, Any]:
    """The signatures that requests can name: not TensorFlow's own, such as the initializer."""
    return {
        name: signature
        for name, signature in sorted(meta_graph.signature_def.items())
        if not name.startswith("__saved_model_")
    }


def _check_signatures(meta_graph: Any) -> Finding:
    """What the file tells about the signatures."""
    signatures = _signatures(meta_graph)
    if not signatures:
        mend = 'save it with signatures={"serving_default": ...}'
        return Finding("signatures", [f"it has no signature that a request could call; {mend}"])
    problems, notes = _type_findings(signatures)
    for name, signature in signatures.items():
        problems += _tensor_problems(name, signature, meta_graph.graph_def)
    notes = [f"requests can call {', '.join(signatures)}", *notes]
    notes += _random_notes(signatures, meta_graph.graph_def)
    if "serving_default" not in signatures:
        notes.append("there is no serving_default, so each request must name its signature")
    return Finding("signatures", problems, notes)


def _type_findings(signatures: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Problems and notes: types that no request or answer should have, or that only gRPC has."""
    problems: list[str] = []
    notes: list[str] = []
    for signature, definition in signatures.items():
        for kind, tensors in (("input", definition.inputs), ("output", definition.outputs)):
            for name, tensor in sorted(tensors.items()):
                if _composite(tensor):
                    continue  # told as such
                try:
                    dtype = tf.as_dtype(tensor.dtype).base_dtype
                except TypeError:
                    problems.append(f"{kind} {name} of {signature} has no type")
                    continue
                said = f"{kind} {name} of {signature} is {dtype.name}, which REST cannot carry"
                if dtype in _GRPC_TYPES:
                    notes.append(f"{said}, but gRPC can")
                elif dtype not in _REST_TYPES:
                    problems.append(said)
    return problems, notes


def _half_outputs(signatures: Mapping[str, Any]) -> Iterator[str]:
    for signature, definition in signatures.items():
        for name, tensor in sorted(definition.outputs.items()):
            if tensor.dtype in {dtype.as_datatype_enum for dtype in _HALF_TYPES}:
                dtype = tf.as_dtype(tensor.dtype).name
                yield f"output {name} of {signature} is {dtype}, which REST cannot carry; cast it"


def _composite(tensor: Any) -> str | None:
    """What a signature's tensor is that is several tensors of the graph; None if it is one."""
    kinds = {"coo_sparse": "sparse", "composite_tensor": "ragged or of another composite type"}
    return kinds.get(tensor.WhichOneof("encoding"))


def _random_notes(signatures: Mapping[str, Any], graph: Any) -> Iterator[str]:
    """Signatures whose answers chance may have a part in, as of augmentation that is left on."""
    for name, signature in signatures.items():
        part = _part(signature, graph)
        nodes = [*part.node, *(node for function in _called(part) for node in function.node_def)]
        changes = any(_SEED_CHANGES.fullmatch(node.op) for node in nodes)
        drawn = {
            node.op: node.name
            for node in nodes
            if _RANDOM_OPS.fullmatch(node.op) or (changes and _SEEDED_OPS.fullmatch(node.op))
        }
        if drawn:
            op, place = min(drawn.items())
            yield (
                f"{name} draws random numbers ({op} at {place}), so equal requests may get "
                "different answers; leave out what only training needs, such as augmentation"
            )


def _part(signature: Any, graph: Any) -> Any:
    """What a request to the signature runs of the main graph, its inputs left out."""
    nodes = {node.name: node for node in graph.node}
    seen = {tensor.name.split(":")[0] for tensor in signature.inputs.values()}
    waiting = [tensor.name.split(":")[0] for tensor in signature.outputs.values()]
    reached = []
    while waiting:
        node = nodes.get(waiting.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        reached.append(node)
        waiting += [source.lstrip("^").split(":")[0] for source in node.input]
    return SimpleNamespace(node=reached, library=graph.library)


def _tensor_problems(name: str, signature: Any, graph: Any) -> Iterator[str]:
    """Tensors of a signature that are not in the graph, and what they need but are not given."""
    nodes = {node.name: node for node in graph.node}
    for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        for key, tensor in sorted(tensors.items()):
            if what := _composite(tensor):
                yield (
                    f"{kind} {key} of {name} is {what}, no plain tensor, which neither requests "
                    "nor answers can hold; make it dense, as with .to_tensor()"
                )
            elif tensor.name.split(":")[0] not in nodes:
                yield f"{kind} {key} of {name}, the tensor {tensor.name}, is not in the graph"
    if not signature.outputs:
        yield f"{name} has no outputs"
    for node in _part(signature, graph).node:
        if node.op == "Placeholder":
            yield f"{name} needs the placeholder {node.name}, which is none of its inputs"


def _check_size(saved_model: Path, meta_graph: Any) -> Finding:
    graph = meta_graph.graph_def
    functions = graph.library.function
    ops = len(graph.node) + sum(len(function.node_def) for function in functions)
    size = f"{_count(ops, 'op')} in {_count(len(functions), 'function')} and the main graph"
    if not meta_graph.HasField("saver_def"):
        return Finding("size", notes=[f"no variables; {size}"])
    try:
        reader = tf.train.load_checkpoint(str(saved_model / "variables" / "variables"))
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    except Exception:
        return Finding("size", notes=[size], checked=False)
    count = {
        name: int(np.prod(shape, dtype=np.int64))
        for name, shape in shapes.items()
        if dtypes[name] != tf.string
    }
    if not count:
        return Finding("size", notes=[f"no variables; {size}"])
    weight = sum(number * dtypes[name].size for name, number in count.items()) / 1e6
    parameters, variables = _count(sum(count.values()), "parameter"), _count(len(count), "variable")
    return Finding("size", notes=[f"{parameters} in {variables}, {weight:,.1f} MB; {size}"])


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' if number != 1 else ''}"


# Loading and running


def _run_findings(
    saved_model: Path, meta_graph: Any, server: str, tags: Sequence[str], signatures: Finding
) -> dict[str, Finding]:
    """The findings that need the model to be loaded."""
    unknown = _unregistered(meta_graph.graph_def, server)
    if unknown:
        reason = f"TensorFlow {tf.__version__} here lacks {', '.join(unknown)}: not loaded to see"
        return {
            "loading": Finding("loading", notes=[reason], checked=False),
            "signatures": replace(signatures, checked=False),
        }
    try:
        with _loaded(saved_model, tags) as (session, loaded):
            sound = {
                name: signature
                for name, signature in _signatures(loaded).items()
                if not any(_tensor_problems(name, signature, meta_graph.graph_def))
            }
            problems = signatures.problems + list(_call_problems(session, sound))
            return {
                "loading": Finding("loading"),
                "signatures": replace(signatures, problems=problems),
                "warmup": _check_warmup(saved_model, session, loaded),
            }
    except _BrokenError as error:
        return {
            "loading": Finding("loading", [str(error)]),
            "signatures": replace(signatures, checked=False),
        }


def _unregistered(graph: Any, server: str) -> list[str]:
    """Ops of the server that this process has not, once the libraries with such ops are there."""
    ops = _places(graph)[0].keys() - {
        function.signature.name for function in graph.library.function
    }
    for library, names in linked_ops(server).items():
        for prefix, module in _OP_MODULES.items():
            if library.startswith(prefix) and names & ops:
                with suppress(ImportError), quiet_imports():
                    importlib.import_module(module)
    return sorted(op for op in ops if op_def_registry.get(op) is None)


@contextmanager
def _loaded(saved_model: Path, tags: Sequence[str]) -> Iterator[tuple[tf.compat.v1.Session, Any]]:
    """A session with the model in it, and the graph's description.

    Raises:
        _BrokenError: it cannot be loaded.
    """
    # As in the server, an op that is bound to a device is moved to no other.
    config = context.context().config
    config.allow_soft_placement = False
    with closing(tf.compat.v1.Session(graph=tf.Graph(), config=config)) as session:
        try:
            with quiet_tensorflow():
                loaded = tf.compat.v1.saved_model.load(session, list(tags), str(saved_model))
        except Exception as error:  # a damaged file makes TensorFlow raise anything
            raise _BrokenError(f"it cannot be loaded: {first_line(error)}") from None
        yield session, loaded


def _call_problems(session: tf.compat.v1.Session, signatures: Mapping[str, Any]) -> Iterator[str]:
    """Whether the graph, cut down to each signature, can be made ready to run."""
    for name, signature in signatures.items():
        options = config_pb2.CallableOptions(
            fetch=sorted({tensor.name for tensor in signature.outputs.values()}),
            feed=sorted({tensor.name for tensor in signature.inputs.values()}),
        )
        try:
            # The public make_callable does nothing before it is called, if there are feeds.
            session._make_callable_from_options(options)
        except Exception as error:
            yield f"{name} cannot be called: {first_line(error)}"


def _check_warmup(saved_model: Path, session: tf.compat.v1.Session, meta_graph: Any) -> Finding:
    try:
        logs = read_logs(saved_model)
    except WarmupError as error:
        return Finding("warmup", [str(error)])
    if not logs:
        mend = "tasks.engine.exporting.warmup.write_warmup writes them"
        return Finding("warmup", notes=[f"no warmup requests: first requests will be slow; {mend}"])
    problems = replay(session, meta_graph, logs)
    return Finding(
        "warmup", problems, [] if problems else [f"{_count(len(logs), 'request')} answered"]
    )
