"""The published messages of TensorFlow Serving, without TensorFlow.

They are built on messages that lie inside the package `tensorflow`, whose import takes seconds and
hundreds of megabytes; those messages themselves need nothing of it.
"""

import contextlib
import importlib.machinery
import sys
import types
from collections.abc import Iterator, Sequence

import numpy as np

from tfface.serving.patience import ServerError


@contextlib.contextmanager
def _bare_tensorflow() -> Iterator[None]:
    """Lets what lies inside the package be imported without running the package; a later import of it does run it."""
    spec = importlib.machinery.PathFinder.find_spec("tensorflow")
    if "tensorflow" in sys.modules or spec is None or spec.submodule_search_locations is None:
        yield
        return
    bare = types.ModuleType("tensorflow")
    bare.__path__ = list(spec.submodule_search_locations)
    sys.modules["tensorflow"] = bare
    try:
        yield
    finally:
        del sys.modules["tensorflow"]


with _bare_tensorflow():
    from tensorflow.core.framework import tensor_pb2, types_pb2
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )

__all__ = [
    "get_model_metadata_pb2",
    "get_model_status_pb2",
    "model_pb2",
    "model_service_pb2_grpc",
    "predict_pb2",
    "prediction_service_pb2_grpc",
    "tensor_pb2",
    "to_array",
    "to_tensor",
    "types_pb2",
]

_KINDS = {
    types_pb2.DT_FLOAT: (np.float32, "float_val"),
    types_pb2.DT_INT32: (np.int32, "int_val"),
    types_pb2.DT_INT64: (np.int64, "int64_val"),
}


def to_tensor(value: Sequence[bytes] | np.ndarray) -> tensor_pb2.TensorProto:
    """Files (N,), or an array of float32, as a message."""
    if isinstance(value, np.ndarray):
        tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_content=value.astype("<f4").tobytes())
        shape: tuple[int, ...] = value.shape
    else:
        tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=value)
        shape = (len(value),)
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


def to_array(tensor: tensor_pb2.TensorProto) -> np.ndarray:
    """A message of numbers as an array.

    Raises:
        ServerError: it holds something else, or other than its shape says.
    """
    shape = tuple(dimension.size for dimension in tensor.tensor_shape.dim)
    if tensor.dtype not in _KINDS:
        raise ServerError("INTERNAL", f"the answer is of the type {types_pb2.DataType.Name(tensor.dtype)}")
    kind, name = _KINDS[tensor.dtype]
    if tensor.tensor_content:
        values = np.frombuffer(tensor.tensor_content, np.dtype(kind).newbyteorder("<")).astype(kind)
    else:
        values = np.array(getattr(tensor, name), kind)
    if len(values) == 1:  # one value stands for all that are equal to it
        return np.full(shape, values[0])
    if len(values) != int(np.prod(shape)):
        raise ServerError("INTERNAL", f"the answer has {len(values)} values for the shape {shape}")
    return values.reshape(shape)
