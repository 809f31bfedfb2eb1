"""TensorFlow Serving's gRPC services."""

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np

from tfface.serving.connection import Connection, Inputs, Signature
from tfface.serving.messages import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    to_array,
    to_tensor,
    types_pb2,
)
from tfface.serving.patience import TOO_LARGE, ServerError

_OPTIONS = (
    # How often is asked again is decided in one place; nor is a proxy for web pages asked.
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
