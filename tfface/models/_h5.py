"""Keras files: weights in HDF5, read by name and shape and written small; descriptions of layers, checked before use.

Nothing is unpickled, and what of a file would run code is refused, in a SavedModel's graphs too.

Two layouts are read: that of Keras 2 (`save_weights('x.h5')`, and whole-model files, whose weights stand under
`model_weights`), in which the published files are, and that of Keras 3 (`save_weights('x.weights.h5')`), in which
presets trained by this project are. Keras 3's own reader is not used: it goes by the order of layers and may leave some
at their fresh weights with a warning.

`save` writes Keras 3's layout, but named: `layers/<layer's name>/vars/0`, `1`, ... in the order of the layer's weights.
Kernels are float16; in a compact file large ones are int8, whose scales (one for each output channel, float32) are in
`layers/<layer's name>/scales/0`, ...
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from tfface.errors import UserError
from tfface.utils.files import atomic_write

if TYPE_CHECKING:
    import keras

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_KERAS_MEMBERS = ("config.json", "metadata.json", "model.weights.h5")
_CODE = ("Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
"""Classes of layers that hold or load code."""
_REACHES_OUT = re.compile(
    r"File(?!name)|PyFunc|Reader|(TextLine|Record|Snapshot|Save|Cache)Dataset|Summary|^PrintV2|Rpc|Debug"
)
"""Operations of TensorFlow's graphs that run code, or read or write files."""
WRITES = re.compile(rf"{_REACHES_OUT.pattern}|^(Save|Restore|Merge)")
"""The same in a signature, which has no weights to save; a SavedModel's own saver has."""
LOW_RANK = "tfface_low_rank"
"""Attribute of a file whose network was trained with few weights (`_low_rank`)."""
_SMALL = 2**18
"""Values up to which a kernel stays float16 in a compact file: the first convolutions, to which embeddings are most
sensitive, are small."""


def save(model: "keras.Model", path: Path, *, compact: bool = False) -> None:
    """Write a model's weights.

    Args:
        model: trained.
        path: ends in `.weights.h5`.
        compact: large kernels are int8, at half the size; embeddings change by a cosine of about 1e-4.
    """
    buffer = io.BytesIO()
    # Through memory: HDF5 crashes the process when the disk is full.
    with h5py.File(buffer, "w") as file:
        for layer in model.layers:
            if layer.weights:
                group = file.create_group(f"layers/{layer.name}")
                variables = group.create_group("vars")
                variables.attrs["name"] = layer.name
                for index, weight in enumerate(layer.weights):
                    _write(group, str(index), np.asarray(weight), compact=compact)
        if few := getattr(model, "low_rank", None):
            file.attrs[LOW_RANK] = json.dumps(few)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def _write(group: h5py.Group, name: str, values: np.ndarray, *, compact: bool) -> None:
    if values.ndim < 2:
        # Biases and batch normalisation: a variance may be beyond float16's range.
        group.create_dataset(f"vars/{name}", data=values)
    elif compact and values.size >= _SMALL:
        whole, scales = quantize(values)
        group.create_dataset(f"vars/{name}", data=whole, compression="gzip", compression_opts=9)
        group.create_dataset(f"scales/{name}", data=scales)
    else:
        group.create_dataset(f"vars/{name}", data=values.astype(np.float16))


def quantize(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round a kernel to int8 with a scale for each output channel.

    Inputs after a ReLU are positive, so rounding errors of one channel that do not cancel shift its output: some values
    are rounded to their other neighbour, those nearest to the middle first, until the errors' sum is at most half a
    step (the data-free part of bias correction, Nagel et al. 2019, https://arxiv.org/abs/1906.04721).

    Args:
        kernel: (..., channels) float32.

    Returns:
        int8 of the same shape, and scales float32 (channels,): their product is near the kernel.
    """
    flat = kernel.reshape(-1, kernel.shape[-1]).astype(np.float32)
    scales = np.maximum(np.abs(flat).max(axis=0) / 127, np.finfo(np.float32).tiny)
    exact = flat / scales
    whole = np.rint(exact)
    errors = exact - whole
    surplus = np.rint(errors.sum(axis=0))
    order = np.argsort(-errors * np.sign(surplus), axis=0)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(len(flat))[:, None], axis=0)
    whole += np.where(ranks < np.abs(surplus), np.sign(surplus), 0)
    return np.clip(whole, -127, 127).astype(np.int8).reshape(kernel.shape), scales


def fill(model: "keras.Model", path: str | Path, *, unused: tuple[str, ...] = ()) -> None:
    """Fill a built model from a weights file; a model is filled wholly or left as it was.

    Args:
        model: its layers bear the saved layers' names, with `_` for the `/` that Keras 3 forbids.
        path: the weights file.
        unused: saved layers that the model does not have and need not.

    Raises:
        OSError: the file cannot be opened.
        ValueError: the file is cut short or no weights file, or its layers are not the model's.
    """
    path = Path(path)
    _check_whole(path)
    try:
        with h5py.File(path) as file:
            matched = list(_match(model, _saved_layers(file), unused))
            values = [(variable, _values(dataset)) for variable, dataset in matched]
    except RuntimeError as error:  # how h5py reports some kinds of damage
        raise ValueError(f"it is damaged ({error})") from error
    for variable, value in values:
        variable.assign(value)


def _values(dataset: h5py.Dataset) -> np.ndarray:
    values = np.asarray(dataset, np.float32)
    if dataset.dtype != np.int8:
        return values
    scales = _member(
        _member(dataset.parent.parent, "scales", h5py.Group), dataset.name.rsplit("/", 1)[-1], h5py.Dataset
    )
    if scales.shape != values.shape[-1:]:
        raise ValueError(f"{dataset.name} has {scales.shape} scales, not {values.shape[-1:]}")
    return values * np.asarray(scales, np.float32)


def _check_whole(path: Path) -> None:
    with open(path, "rb") as file:
        start = file.read(64)
    if not start.startswith(SIGNATURE):
        kind = "a web page" if start.lstrip().lower().startswith((b"<!doctype", b"<html")) else "no HDF5 file"
        raise ValueError(f"it is {kind if start else 'empty'}")
    try:
        h5py.File(path).close()
    except OSError as error:
        raise ValueError(f"it is cut short or damaged ({error})") from error


def _saved_layers(file: h5py.File) -> dict[str, dict[str, h5py.Dataset]]:
    """Return the saved layers that have weights: {layer: {variable: dataset}}."""
    root = file.get("model_weights", file)
    found = _keras_3_layers(file) if "layers" in file else _keras_2_layers(root)
    return {name: weights for name, weights in found if weights}


def _keras_2_layers(root: h5py.Group) -> Iterator[tuple[str, dict[str, h5py.Dataset]]]:
    """Yield layers listed in `layer_names`; `conv1/kernel:0` of `weight_names` is the variable `kernel`."""
    for name in _names(root, "layer_names"):
        group = _member(root, name, h5py.Group)
        yield (
            name.replace("/", "_"),
            {
                entry.rsplit("/", 1)[-1].split(":")[0]: _member(group, entry, h5py.Dataset)
                for entry in _names(group, "weight_names")
            },
        )


def _keras_3_layers(root: h5py.Group) -> Iterator[tuple[str, dict[str, h5py.Dataset]]]:
    """Yield `layers/<class>_<count>/vars` with the layer's name as an attribute; variables are `0`, `1`, ..."""
    layers = _member(root, "layers", h5py.Group)
    for key in layers:
        variables = _member(_member(layers, key, h5py.Group), "vars", h5py.Group)
        name = str(variables.attrs.get("name", key))
        yield name, {entry: _member(variables, entry, h5py.Dataset) for entry in variables}


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """Read a list of names among a group's attributes; Keras splits a long one over `name0`, `name1`, ..."""
    found = [group.attrs[attribute]] if attribute in group.attrs else []
    while f"{attribute}{len(found)}" in group.attrs:
        found.append(group.attrs[f"{attribute}{len(found)}"])
    if not found:
        raise ValueError(f"it is HDF5 but no Keras weights file: {group.name} has no {attribute}")
    return [name.decode() if isinstance(name, bytes) else str(name) for part in found for name in part]


def _member(group: h5py.Group, name: str, kind: type) -> Any:
    # A link out of the file would read whatever it names on the user's disk.
    if isinstance(group.get(name, getlink=True), h5py.ExternalLink) or not isinstance(group.get(name), kind):
        raise ValueError(f"{name} is listed in {group.name} but is not there")
    return group[name]


def _match(
    model: "keras.Model", saved: dict[str, dict[str, h5py.Dataset]], unused: tuple[str, ...]
) -> Iterator[tuple[Any, h5py.Dataset]]:
    """Yield (variable of the model, its dataset); every saved layer is used or named in `unused`."""
    layers = [layer for layer in model.layers if layer.weights]
    for layer in layers:
        if layer.name not in saved:
            raise ValueError(f"layer {layer.name} is missing")
        yield from _match_layer(layer, saved[layer.name])
    extra = set(saved) - {layer.name for layer in layers} - set(unused)
    if extra:
        raise ValueError(f"layer {min(extra)} is none of this network's")


def _match_layer(layer: "keras.layers.Layer", saved: dict[str, h5py.Dataset]) -> Iterator[tuple[Any, h5py.Dataset]]:
    wanted = {variable.name: variable for variable in layer.weights}
    if set(saved) == {str(index) for index in range(len(wanted))}:  # Keras 3 saves them without a name, in order
        saved = {name: saved[str(index)] for index, name in enumerate(wanted)}
    if set(wanted) != set(saved):
        raise ValueError(f"layer {layer.name} has {', '.join(sorted(saved))}, not {', '.join(sorted(wanted))}")
    for name, variable in wanted.items():
        if tuple(variable.shape) != saved[name].shape:
            raise ValueError(f"layer {layer.name}: {name} has shape {saved[name].shape}, not {tuple(variable.shape)}")
        yield variable, saved[name]


def read_config(path: Path) -> Any:
    """Read the description of the layers in a Keras file, without running anything of it."""
    try:
        # By its name, as Keras opens it: one file can be both, with another description in each.
        if path.suffix.lower() == ".keras":
            with zipfile.ZipFile(path) as bundle:
                odd = [name for name in bundle.namelist() if name not in _KERAS_MEMBERS and not _asset(name)]
                if odd:
                    raise UserError(f"it holds {odd[0]}, which no Keras file does: it is refused", parameter="embedder")
                with bundle.open(_KERAS_MEMBERS[-1]) as weights, h5py.File(weights, "r") as file:
                    _check_links(file)
                return json.loads(bundle.read("config.json"))
        with h5py.File(path, "r") as file:
            _check_links(file)
            text = file.attrs.get("model_config")
            if text is None:
                raise UserError(
                    "it holds weights without their network: save the whole model, or give the model by `tfface.wrap`",
                    parameter="embedder",
                )
            return json.loads(text)
    except (OSError, KeyError, ValueError, RecursionError, zipfile.BadZipFile) as error:
        raise UserError(f"it is no Keras model ({first_line(error)})", parameter="embedder") from error


def _asset(name: str) -> bool:
    return name.startswith("assets/") and ".." not in name and not name.endswith((".pkl", ".pickle"))


def _check_links(group: h5py.Group, seen: frozenset[Any] = frozenset()) -> None:
    place = h5py.h5o.get_info(group.id).addr
    if place in seen:
        raise UserError(f"its entry {group.name} holds itself: it is damaged", parameter="embedder")
    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise UserError(f"its entry {name} points to another file or place: it is refused", parameter="embedder")
        item = group[name]
        if isinstance(item, h5py.Group):
            _check_links(item, seen | {place})
        elif item.external or item.is_virtual:
            raise UserError(f"its entry {name} lies in another file: it is refused", parameter="embedder")


def check_config(config: Any) -> None:
    """Refuse layers that hold code: Lambda, and classes that neither Keras nor this project defines."""
    for entry in _entries(config):
        kind, module = str(entry["class_name"]), str(entry.get("module") or "keras")
        given = entry.get("config")
        name = given.get("name", kind) if isinstance(given, dict) else kind
        if kind in _CODE:
            raise UserError(
                f"its layer {name} is a {kind}, which runs code of the file: it is refused; replace it by a layer of "
                "Keras, or give the model by `tfface.wrap`",
                parameter="embedder",
            )
        ours = str(entry.get("registered_name") or "").startswith("tfface>")
        if not ours and module.split(".")[0] not in ("keras", "tf_keras", "tensorflow", "builtins"):
            raise UserError(
                f"its layer {name} is a {module}.{kind}, which this project does not know: give the model by "
                "`tfface.wrap`",
                parameter="embedder",
            )


def _entries(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, dict):
        if "class_name" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _entries(part)


def check_graphs(path: Path) -> None:
    """Refuse a SavedModel whose graphs run code, or read or write files; nothing of it is loaded.

    Raises:
        UserError: its file is damaged, or holds such an operation.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        held = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    except (OSError, DecodeError) as error:
        raise UserError(f"TensorFlow cannot read it: {first_line(error)}", parameter="embedder") from error
    for graph in held.meta_graphs:
        refuse_operations(operations(graph.graph_def), _REACHES_OUT)


def operations(graph: Any) -> set[str]:
    nodes = (graph.node, *(function.node_def for function in graph.library.function))
    return {node.op for part in nodes for node in part}


def refuse_operations(operations: set[str], refused: re.Pattern[str]) -> None:
    """Raise UserError where an operation is one of those that are refused."""
    for name in sorted(operations):
        if refused.search(name):
            raise UserError(
                f"its graph holds {name}, which runs code, or reads or writes files: it is refused",
                parameter="embedder",
            )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
