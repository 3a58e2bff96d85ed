"""Read recurrent layers and their weights from Keras' files with h5py; Keras isn't needed.

There are three kinds, distinguished by their content:

    .keras          a zip archive of config.json (the layers), model.weights.h5 (the weights) and metadata.json (the
                    version of Keras)
    .weights.h5     HDF5: the arrays 0, 1, 2 (kernel, recurrent kernel, bias) in PATH/cell/vars; PATH as `walk` says
    .h5             HDF5 of Keras 2: arrays kernel:0, recurrent_kernel:0, bias:0, which the attribute weight_names of
                    each layer's group lists; if the whole model was saved, the layers as JSON in model_config

Arrays are read only from the file itself: a file with links to other files raises an error. Nothing in a file is
executed. But the C library that reads HDF5 was not made for untrusted files, and may hang on a damaged one.

Source: Keras' saving_lib.py and legacy_h5_format.py, https://github.com/keras-team/keras/tree/master/keras/src.
"""

from __future__ import annotations

import io
import json
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstm_numba.exchange._keras_layers import Described, Found, Node, Refused, hard_sigmoid_of, problem_of, walk
from lstm_numba.exchange._sources import HDF5, ZIP, is_pickle

PARTS = ("kernel", "recurrent_kernel", "bias")
CONFIG, WEIGHTS, METADATA = "config.json", "model.weights.h5", "metadata.json"
CELL_NAME = re.compile(r"(\w+_)?cell(_\d+)?$")
# Compressed data is always unpacked up to this size, and beyond it only up to this multiple of its bytes.
SMALL, MOST_PACKED = 1 << 24, 20
PICKLE = (
    "expected a Keras file, got a pickle, which can run any program when it is loaded; load it where you trust it and "
    "save the model with model.save('model.keras')"
)


class Stored(NamedTuple):
    """The weights of one direction in a file: their layer and their datasets."""

    layer: tuple[str, ...]  # the layer's path
    direction: int | None  # 0 forward, 1 backward of a Bidirectional
    label: str  # the layer's name, if the file has it
    group: Any
    keys: dict[str, str]  # part → name of its dataset, for parts that the file has or claims to have
    problem: str = ""


@contextmanager
def opened(path: Path) -> Iterator[list[Found]]:
    """Open a file and yield its recurrent layers, whose weights can be read until it is closed.

    Raises
    ------
    Refused
        If it isn't a Keras file, or not whole.
    ImportError
        Without h5py.
    """
    raw, config, version = _weights_file(path)
    h5py = _h5py()
    with _readable():
        file = h5py.File(raw, "r")
    with file:
        with _readable():
            _refuse_links(file)
            found = _layers(file, config)
            version = version or _version_in(file) or ("2" if _is_of_keras_2(file) else "")
        hard_sigmoid = hard_sigmoid_of(version)
        yield [each._replace(hard_sigmoid=hard_sigmoid) for each in found]


@contextmanager
def _readable() -> Iterator[None]:
    """Turn any error of h5py into one that says the file is damaged; h5py has no error class of its own."""
    try:
        yield
    except Refused:
        raise
    except (
        OSError, LookupError, RuntimeError, ValueError, TypeError, ArithmeticError, AttributeError, MemoryError,
        SystemError,
    ) as error:  # fmt: skip
        raise Refused(f"expected a whole HDF5 file, got one that can't be read ({error})") from None


def _refuse_links(file: Any) -> None:
    """Raise if groups of a file link to other files; no link is followed."""
    h5py = _h5py()

    def outside(name: str, link: Any) -> str | None:  # a result ends the visit
        if isinstance(link, h5py.HardLink | h5py.SoftLink):
            return None
        return f"{name}: expected what lies in this file, got a link to {getattr(link, 'filename', link)!r:.200}"

    found = file.visititems_links(outside)
    if found:
        raise Refused(found)


def _weights_file(path: Path) -> tuple[str | io.BytesIO, Mapping[str, Any] | None, str]:
    """Return (what h5py opens, the model's configuration or None, the version of Keras or "")."""
    with open(path, "rb") as file:
        head = file.read(len(HDF5))
    if head == HDF5:
        return os.fspath(path), None, ""
    if head.startswith(ZIP):
        return _archive(path)
    if is_pickle(head):
        raise Refused(PICKLE)
    raise Refused("expected a .keras, .weights.h5 or .h5 file, got one of another kind, or the start of one")


def _archive(path: Path) -> tuple[io.BytesIO, Mapping[str, Any], str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any(name.endswith(".pkl") for name in names):
                raise Refused(PICKLE)
            for name in (CONFIG, WEIGHTS):
                if name not in names:
                    raise Refused(f"expected a .keras archive with {name} in it, got one with {', '.join(names[:5])}")
            about = _parsed(_unpacked(archive, METADATA), METADATA) if METADATA in names else {}
            config = _parsed(_unpacked(archive, CONFIG), CONFIG)
            return io.BytesIO(_unpacked(archive, WEIGHTS)), config, str(about.get("keras_version", ""))
    except Refused:
        raise
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError, OSError) as error:
        raise Refused(f"expected a whole .keras archive, got one that can't be read ({error})") from None


def _unpacked(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a member's content, unless its claimed size is far too large for weights of its compressed size."""
    member = archive.getinfo(name)
    if member.file_size > SMALL + MOST_PACKED * member.compress_size:
        claim = f"got one that claims {member.file_size:,} bytes out of {member.compress_size:,}"
        raise Refused(f"{name}: expected weights, {claim}")
    return archive.read(name)


def _parsed(text: str | bytes, where: str) -> Mapping[str, Any]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{where}: expected a model's configuration as JSON, got what can't be read ({error})") from None
    if not isinstance(config, Mapping):
        raise Refused(f"{where}: expected a model's configuration, got {type(config).__name__}")
    return config


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise ImportError('h5py, which reads Keras files, is not installed: pip install "lstm-numba[keras]"') from None
    return h5py


# -- which layers there are -------------------------------------------------------------------------------------------


def _layers(file: Any, config: Mapping[str, Any] | None) -> list[Found]:
    if not _is_of_keras_2(file):
        stored = list(_stored(file))
        return _joined(stored, list(walk(config)) if config else [], _owner_by_path)
    if "model_config" in file.attrs:
        config = _parsed(_text(file.attrs["model_config"]), "model_config")
    found = _joined(list(_stored_by_keras_2(_root(file))), list(walk(config)) if config else [], _owner_by_name)
    return [each if each.described.cells else _doubtful(each, file) for each in found]


def _root(file: Any) -> Any:
    """Return the group in which Keras 2 keeps the layers."""
    return file["model_weights"] if "model_weights" in file else file


def _is_of_keras_2(file: Any) -> bool:
    """Return whether the file has Keras 2's layout, which later versions can also write."""
    return any(name.startswith("layer_names") for name in _root(file).attrs)


def _version_in(file: Any) -> str:
    """Return the version of Keras that an HDF5 file names, or ""."""
    return _text(_root(file).attrs.get("keras_version", file.attrs.get("keras_version", "")))


def _doubtful(found: Found, file: Any) -> Found:
    """Note that a layer without a description may have other gates, if an older Keras wrote it."""
    version = _version_in(file)
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) >= (2, 3):
        return found
    text = (
        f"keras_version {version!r}: Keras before 2.3 had recurrent_activation='hard_sigmoid' by default, and the file "
        "holds no model that tells whether this layer has it; say so with recurrent_activation='hard_sigmoid', or say "
        "which other one the model was made with: recurrent_activation='sigmoid'"
    )
    return found._replace(described=found.described._replace(gates_unknown=text))


def _joined(stored: list[Stored], nodes: list[Node], owner: Any) -> list[Found]:
    """Join the descriptions of layers with the places of their weights; layers without a description come last."""
    weights: dict[int, list[Stored]] = {}
    found, unknown = [], []
    for each in stored:
        number = owner(each, nodes)
        if number is None:
            unknown.append(each)
        else:
            weights.setdefault(number, []).append(each)
    for number, node in enumerate(nodes):
        described = node.described
        if described is None and number in weights:
            described = Described(problem=problem_of(node.kind))
        if described is not None:
            read = _reader(weights.get(number, []), len(described.cells))
            found.append(Found(node.name, node.path, described, read, node.place, node.below))
    return found + _undescribed(unknown)


def _owner_by_path(stored: Stored, nodes: list[Node]) -> int | None:
    path = "/".join(stored.layer)
    for number, node in enumerate(nodes):
        if node.path and (path == node.path or (node.described is not None and path.startswith(f"{node.path}/"))):
            return number
    return None


def _owner_by_name(stored: Stored, nodes: list[Node]) -> int | None:
    names = {node.name: number for number, node in enumerate(nodes) if node.described is not None}
    for part in reversed(stored.layer):
        if part in names:
            return names[part]
    others = {node.name: number for number, node in enumerate(nodes)}
    return others.get(stored.layer[-1])


def _undescribed(stored: list[Stored]) -> list[Found]:
    """Return the layers of which only the weights are known."""
    layers: dict[tuple[str, ...], list[Stored]] = {}
    for each in stored:
        layers.setdefault(each.layer, []).append(each)
    found = []
    for path, parts in layers.items():
        described = Described(problem=next((each.problem for each in parts if each.problem), ""))
        n_directions = 2 if any(each.direction is not None for each in parts) else 1
        name = parts[0].label or (path[-1] if path else "cell")
        found.append(Found(name, "/".join(path), described, _reader(parts, n_directions)))
    return found


def _reader(stored: list[Stored], n_directions: int) -> Any:
    def read() -> list[list[NDArray]]:
        ordered = sorted(stored, key=lambda each: each.direction or 0)
        if len(ordered) != n_directions:
            there = ", ".join(each.group.name for each in ordered) or "none"
            raise Refused(f"expected the weights of {n_directions} direction(s), got {there}")
        with _readable():
            return [_read(each) for each in ordered]

    return read


# -- where their weights are ------------------------------------------------------------------------------------------


def _stored(file: Any) -> Iterator[Stored]:
    """Find every cell's weights in the layout of Keras 3."""
    groups: list[str] = []
    file.visit(lambda name: groups.append(name) if name.rpartition("/")[2] == "vars" else None)
    for name in groups:
        *path, _ = name.split("/")
        if path and path[0] == "_layer_checkpoint_dependencies":  # its name in TensorFlow 2.12 and 2.13
            path[0] = "layers"
        group = file[name]
        called = _text(group.attrs.get("name", ""))
        if not path or not (CELL_NAME.match(path[-1]) or path[-2:-1] == ["cells"] or CELL_NAME.match(called)):
            continue
        if not hasattr(group, "keys"):
            raise Refused(f"{group.name}: expected a group, got an array")
        numbers = {part: str(n) for n, part in enumerate(PARTS) if str(n) in group}
        if not numbers:  # a cell of cells
            continue
        direction, layer = None, tuple(path[:-1] if path[-1] == "cell" else path)
        if layer and layer[-1] in ("forward_layer", "backward_layer"):
            direction, layer = int(layer[-1] == "backward_layer"), layer[:-1]
        label = _label(file, "/".join([*name.split("/")[: len(layer)], "vars"])) or called
        problem = _stored_problem(group.parent.parent, path, called)
        yield Stored(layer, direction, label, group, numbers, problem)


def _stored_problem(above: Any, path: list[str], called: str) -> str:
    """Return what the names in a file reveal of a cell: another kind, or a layer as its non-linearity."""
    for name in (called, path[-1]):
        if re.match(r"conv_lstm_cell(_\d+)?$", name):
            return problem_of("ConvLSTM")
    for name in ("activation", "recurrent_activation"):
        if path[-1] == "cell" and name in above:
            return f"a layer whose {name} is another layer ({_label(above, f'{name}/vars')})"
    return ""


def _label(file: Any, path: str) -> str:
    return _text(file[path].attrs.get("name", "")) if path in file else ""


def _stored_by_keras_2(root: Any) -> Iterator[Stored]:
    """Find every cell's weights in the layout of Keras 2."""
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for top in root:
        if root.get(top, getclass=True, getlink=True) is not _h5py().HardLink:
            continue
        for weight in _weight_names(root[top].attrs):
            *folder, last = weight.split("/")
            cells.setdefault((top, *folder), {})[last.partition(":")[0]] = weight
    cells = {path: parts for path, parts in cells.items() if "recurrent_kernel" in parts}
    layers = [path[:-1] if len(path) > 2 and CELL_NAME.match(path[-1]) else path for path in cells]
    for path, layer, parts in zip(cells, layers, cells.values(), strict=True):
        if layers.count(layer) > 1:  # cells upon cells
            layer = path
        direction = None
        for number, (own, other) in enumerate((("forward_", "backward_"), ("backward_", "forward_"))):
            beside = (each for each in layers if each[:-1] == layer[:-1] and each[-1].startswith(other))
            if layer[-1].startswith(own) and any(beside):
                direction = number
        if direction is not None:
            layer = layer[:-1]
        keys = {part: parts[part] for part in PARTS if part in parts}
        yield Stored(layer, direction, layer[-1], root[path[0]], keys)


def _weight_names(attributes: Any) -> list[str]:
    """Return a layer's weight_names; long lists are spread over weight_names0, weight_names1, and so on."""
    names = sorted(
        (name for name in attributes if re.fullmatch(r"weight_names\d*", name)), key=lambda name: (len(name), name)
    )
    return [_text(weight) for name in names for weight in attributes[name]]


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


# -- arrays -----------------------------------------------------------------------------------------------------------


def _read(stored: Stored) -> list[NDArray]:
    for part in PARTS[:2]:
        if part not in stored.keys:
            raise Refused(f"{stored.group.name}: expected a {part}, got none")
    return [_array(stored.group, stored.keys[part], part) for part in PARTS if part in stored.keys]


def _array(group: Any, name: str, part: str) -> NDArray:
    h5py = _h5py()
    where = f"{group.name}/{name} ({part})"
    *folders, last = name.split("/")
    for folder in folders:
        if folder not in group or not isinstance(group.get(folder, getlink=True), h5py.HardLink):
            raise Refused(f"{where}: expected an array, got none")
        group = group[folder]
    if last not in group:
        raise Refused(f"{where}: expected an array, got none")
    if not isinstance(group.get(last, getlink=True), h5py.HardLink) or not isinstance(group[last], h5py.Dataset):
        raise Refused(f"{where}: expected an array, got a link or a group")
    dataset = group[last]
    if dataset.external or dataset.is_virtual:
        raise Refused(f"{where}: expected an array in this file, got one in another file")
    # An array that was never written reads as zeros.
    stored = _stored_bytes(dataset)
    if dataset.size and (not stored or dataset.nbytes > SMALL + MOST_PACKED * stored):
        raise Refused(f"{where}: expected {dataset.nbytes} bytes, and the file holds {stored} of them")
    if _text(dataset.attrs.get("dtype", "")) == "bfloat16" and dataset.dtype.itemsize == 2:
        upper = np.frombuffer(np.ascontiguousarray(dataset[()]).tobytes(), "<u2").astype(np.uint32)
        return (upper << 16).view(np.float32).reshape(dataset.shape)
    return np.asarray(dataset[()])


def _stored_bytes(dataset: Any) -> int:
    return dataset.id.get_storage_size()
