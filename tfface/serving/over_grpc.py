"""TensorFlow Serving's gRPC services, by its published messages, without TensorFlow.

The messages are built on some that lie inside the package `tensorflow`, whose import takes seconds and hundreds of
megabytes; those messages themselves need nothing of it.
"""

import contextlib
import importlib.machinery
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import numpy as np

from tfface.serving.connection import TOO_LARGE, Connection, Inputs, ServerError, Signature


@contextlib.contextmanager
def _bare_tensorflow() -> Iterator[None]:
    """Let modules inside the package be imported without running the package; a later import of it does run it."""
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

_KINDS = {
    types_pb2.DT_FLOAT: (np.float32, "float_val"),
    types_pb2.DT_INT32: (np.int32, "int_val"),
    types_pb2.DT_INT64: (np.int64, "int64_val"),
}
_OPTIONS = (
    # `Retry` alone decides on retries; and no proxy for web pages is asked.
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    # A call must not fail because the channel still waits before it looks again.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


class GrpcConnection(Connection):
    """A model reached over gRPC, unencrypted."""

    protocol = "grpc"

    def __init__(self, server: str, model: str, *, deadline: float = 30.0) -> None:
        super().__init__(server, model, deadline=deadline)
        self._channel = grpc.insecure_channel(server, options=_OPTIONS)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def states(self) -> dict[int, str]:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec())
        answer = self._call(self._models.GetModelStatus, request)
        name = get_model_status_pb2.ModelVersionStatus.State.Name
        return {entry.version: name(entry.state) for entry in answer.model_version_status}

    def signatures(self, version: int) -> dict[str, Signature]:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._spec(version), metadata_field=["signature_def"]
        )
        answer = self._call(self._prediction.GetModelMetadata, request)
        found = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(found)
        return {
            name: Signature(_types(signature.inputs), _types(signature.outputs))
            for name, signature in found.signature_def.items()
        }

    def predict(self, version: int, signature: str, inputs: Inputs) -> dict[str, np.ndarray]:
        request = predict_pb2.PredictRequest(model_spec=self._spec(version, signature))
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(to_tensor(value))
        answer = self._call(self._prediction.Predict, request)
        return {name: to_array(tensor) for name, tensor in answer.outputs.items()}

    def close(self) -> None:
        self._channel.close()

    def _spec(self, version: int | None = None, signature: str = "") -> model_pb2.ModelSpec:
        spec = model_pb2.ModelSpec(name=self.model, signature_name=signature)
        if version is not None:
            spec.version.value = version
        return spec

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        try:
            return method(request, timeout=self.deadline)
        except grpc.RpcError as error:
            code, details = error.code().name, error.details() or "it does not say why"
            if code == "RESOURCE_EXHAUSTED" and "larger than max" in details:
                code = TOO_LARGE
            raise ServerError(code, details) from error


def _types(infos: Any) -> dict[str, str]:
    return {name: types_pb2.DataType.Name(info.dtype) for name, info in infos.items()}


def to_tensor(value: Sequence[bytes] | np.ndarray) -> tensor_pb2.TensorProto:
    """Return files (N,), or an array of float32, as a message."""
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
    """Return a message of numbers as an array.

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
