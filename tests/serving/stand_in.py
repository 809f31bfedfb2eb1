"""A server that answers as TensorFlow Serving does, for machines that do not have its binary.

    python tests/serving/stand_in.py DIR [--name NAME] [--seconds S]

It speaks the published gRPC services and the REST interface, runs a SavedModel, and merges requests
that come together into one batch. Messages and codes are those of TensorFlow Serving's sources
(predict_util.cc, get_model_status_impl.cc, batching_session.cc, shared_batch_scheduler.h). The
first line that it prints is a JSON object with its ports.
"""

import argparse
import base64
import json
import queue
import re
import sys
import threading
import time
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

HTTP = {
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 412,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


class Refusal(Exception):
    """A status other than OK."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Task:
    """A request that waits for a batch."""

    inputs: dict[str, Any]
    size: int
    answer: Future = field(default_factory=Future)


class Batcher:
    """Merges the requests to one signature, as a batching session does."""

    def __init__(self, function, *, most: int, wait: float, waiting: int) -> None:
        self._function = function
        self._most, self._wait, self._waiting = most, wait, waiting
        self._tasks: queue.Queue[Task] = queue.Queue()
        self.sizes: list[int] = []
        threading.Thread(target=self._work, daemon=True).start()

    def call(self, inputs: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
        sizes = {int(value.shape[0]) if value.shape.rank else -1 for value in inputs.values()}
        if len(sizes) != 1 or -1 in sizes:
            raise Refusal("INVALID_ARGUMENT", "Batching session Run() input tensors must have equal 0th-dimension size")
        size = sizes.pop()
        if size > self._most:
            raise Refusal("INVALID_ARGUMENT", f"Task size {size} is larger than maximum batch size {self._most}")
        if self._tasks.qsize() >= self._waiting:
            raise Refusal("UNAVAILABLE", "The batch scheduling queue to which this task was submitted is full")
        task = Task(inputs, size)
        self._tasks.put(task)
        return task.answer.result()

    def _work(self) -> None:
        kept = None
        while True:
            batch = [kept or self._tasks.get()]
            kept, size, end = None, batch[0].size, time.monotonic() + self._wait
            while size < self._most:
                try:
                    task = self._tasks.get(timeout=max(0.0, end - time.monotonic()))
                except queue.Empty:
                    break
                if size + task.size > self._most:
                    kept = task
                    break
                batch.append(task)
                size += task.size
            self._answer(batch)

    def _answer(self, batch: list[Task]) -> None:
        self.sizes.append(sum(task.size for task in batch))
        try:
            outputs = self._run(batch)
        except Exception as error:
            for task in batch:
                task.answer.set_exception(error)
            return
        start = 0
        for task in batch:
            task.answer.set_result({name: value[start : start + task.size] for name, value in outputs.items()})
            start += task.size

    def _run(self, batch: list[Task]) -> dict[str, np.ndarray]:
        merged = {}
        for name in batch[0].inputs:
            parts = [task.inputs[name] for task in batch]
            if len({tuple(part.shape[1:]) for part in parts}) > 1:
                raise Refusal(
                    "FAILED_PRECONDITION",
                    f"Tensors with name '{name}' from different tasks have different shapes and padding is turned off.",
                )
            merged[name] = tf.concat(parts, 0)
        try:
            return {name: value.numpy() for name, value in self._function(**merged).items()}
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise Refusal("INVALID_ARGUMENT", str(error).splitlines()[0]) from error


class Served:
    """One version of a model."""

    def __init__(self, folder: Path, **batching: Any) -> None:
        self._loaded = tf.saved_model.load(str(folder))
        graph = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0]
        self.definitions = {
            name: definition for name, definition in graph.signature_def.items() if not name.startswith("__")
        }
        self.batchers = {name: Batcher(self._loaded.signatures[name], **batching) for name in self.definitions}

    def predict(self, signature: str, inputs: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
        signature = signature or "serving_default"
        if signature not in self.definitions:
            raise Refusal("FAILED_PRECONDITION", f'Serving signature key "{signature}" not found.')
        wanted = set(self.definitions[signature].inputs)
        if set(inputs) != wanted:
            raise Refusal(
                "INVALID_ARGUMENT",
                f"input size does not match signature: {len(inputs)}!={len(wanted)}. "
                f"Missing but required: {{{','.join(sorted(wanted - set(inputs)))}}}.",
            )
        return self.batchers[signature].call(inputs)


class StandIn:
    """The server.

    Attributes:
        delay: seconds by which every prediction is late.
        states: what the status says of each version.
    """

    def __init__(
        self,
        name: str,
        folders: dict[int, Path],
        *,
        most: int = 32,
        wait: float = 0.005,
        waiting: int = 100,
        message_bytes: int = -1,
        ports: tuple[int, int] = (0, 0),
    ) -> None:
        self.name = name
        self.versions = {
            number: Served(folder, most=most, wait=wait, waiting=waiting) for number, folder in folders.items()
        }
        self.states = dict.fromkeys(folders, "AVAILABLE")
        self.delay = 0.0
        self.fail: list[Refusal] = []
        self.calls: list[str] = []
        options = [("grpc.max_receive_message_length", message_bytes), ("grpc.so_reuseport", 0)]
        self._grpc = grpc.server(futures.ThreadPoolExecutor(64), options=options)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Prediction(self), self._grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Models(self), self._grpc)
        self.grpc = f"127.0.0.1:{self._grpc.add_insecure_port(f'127.0.0.1:{ports[0]}')}"
        self._http = ThreadingHTTPServer(("127.0.0.1", ports[1]), type("Handler", (_Handler,), {"server_of": self}))
        self.rest = f"127.0.0.1:{self._http.server_port}"

    def start(self) -> "StandIn":
        self._grpc.start()
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def stop(self) -> None:
        self._grpc.stop(None).wait()
        self._http.shutdown()
        self._http.server_close()

    def address(self, protocol: str) -> str:
        return self.grpc if protocol == "grpc" else self.rest

    def predict(self, name: str, version: int | None, signature: str, inputs: dict[str, tf.Tensor]):
        """(version, outputs)."""
        self.calls.append(signature)
        if self.fail:
            raise self.fail.pop(0)
        number = self._number(name, version)
        time.sleep(self.delay)
        return number, self.versions[number].predict(signature, inputs)

    def metadata(self, name: str, version: int | None) -> get_model_metadata_pb2.GetModelMetadataResponse:
        number = self._number(name, version)
        found = get_model_metadata_pb2.SignatureDefMap(signature_def=self.versions[number].definitions)
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        answer.model_spec.name = name
        answer.model_spec.version.value = number
        answer.metadata["signature_def"].Pack(found)
        return answer

    def status(self, name: str, version: int | None) -> get_model_status_pb2.GetModelStatusResponse:
        states = self.states if name == self.name else {}
        if version is not None and version not in states:
            raise Refusal("NOT_FOUND", f"Could not find version {version} of model {name}")
        if not states:
            raise Refusal("NOT_FOUND", f"Could not find any versions of model {name}")
        answer = get_model_status_pb2.GetModelStatusResponse()
        for number in states if version is None else [version]:
            state = get_model_status_pb2.ModelVersionStatus.State.Value(states[number])
            answer.model_version_status.add(version=number, state=state).status.SetInParent()
        return answer

    def _number(self, name: str, version: int | None) -> int:
        ready = [number for number, state in self.states.items() if state == "AVAILABLE"]
        if name != self.name or not ready or (version is not None and version not in ready):
            asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise Refusal("NOT_FOUND", f"Servable not found for request: {asked}")
        return max(ready) if version is None else version


def _spec(request: Any) -> tuple[str, int | None]:
    spec = request.model_spec
    return spec.name, spec.version.value if spec.HasField("version") else None


def _or_abort(context: grpc.ServicerContext, action) -> Any:
    try:
        return action()
    except Refusal as error:
        return context.abort(grpc.StatusCode[error.code], str(error))


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, server: StandIn) -> None:
        self._server = server

    def Predict(self, request, context):  # noqa: N802
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        signature = request.model_spec.signature_name
        number, outputs = _or_abort(context, lambda: self._server.predict(*_spec(request), signature, inputs))
        answer = predict_pb2.PredictResponse()
        answer.model_spec.name, answer.model_spec.signature_name = request.model_spec.name, signature
        answer.model_spec.version.value = number
        for name, value in outputs.items():
            tensor = answer.outputs[name]
            # Field by field, as a server does unless it is told otherwise.
            tensor.dtype = tf.as_dtype(value.dtype).as_datatype_enum
            tensor.tensor_shape.CopyFrom(tf.TensorShape(value.shape).as_proto())
            (tensor.float_val if value.dtype == np.float32 else tensor.int_val).extend(value.ravel().tolist())
        return answer

    def GetModelMetadata(self, request, context):  # noqa: N802
        if list(request.metadata_field) != ["signature_def"]:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Metadata field is not supported")
        return _or_abort(context, lambda: self._server.metadata(*_spec(request)))


class _Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, server: StandIn) -> None:
        self._server = server

    def GetModelStatus(self, request, context):  # noqa: N802
        return _or_abort(context, lambda: self._server.status(*_spec(request)))


class _Handler(BaseHTTPRequestHandler):
    server_of: StandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        match = re.fullmatch(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(/metadata)?", self.path)
        self._answer(match, self._metadata if match and match[3] else self._status)

    def do_POST(self) -> None:
        self._answer(re.fullmatch(r"/v1/models/([^/:]+)(?:/versions/(\d+))?:predict", self.path), self._predict)

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def _answer(self, match: re.Match | None, action) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            if match is None:
                raise Refusal("INVALID_ARGUMENT", f"Malformed request: {self.command} {self.path}")
            version = int(match[2]) if match[2] else None
            code, answer = 200, action(match[1], version, body)
        except Refusal as error:
            code, answer = HTTP[error.code], {"error": str(error)}
        data = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _status(self, name: str, version: int | None, _: bytes) -> Any:
        return json_format.MessageToDict(
            self.server_of.status(name, version),
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )

    def _metadata(self, name: str, version: int | None, _: bytes) -> Any:
        answer = self.server_of.metadata(name, version)
        found = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(found)
        return {
            "model_spec": {"name": name, "signature_name": "", "version": str(answer.model_spec.version.value)},
            "metadata": {"signature_def": json_format.MessageToDict(found, preserving_proto_field_name=True)},
        }

    def _predict(self, name: str, version: int | None, body: bytes) -> Any:
        try:
            request = json.loads(body)
            inputs = {key: tf.constant(_from_json(value)) for key, value in request["inputs"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Refusal("INVALID_ARGUMENT", f"JSON Parse error: {error}") from error
        _, outputs = self.server_of.predict(name, version, request.get("signature_name", ""), inputs)
        return {"outputs": {key: value.tolist() for key, value in outputs.items()}}


def _from_json(value: Any) -> Any:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return np.array([base64.b64decode(entry["b64"]) for entry in value], object)
    return np.array(value, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds the versions")
    parser.add_argument("--name")
    parser.add_argument("--seconds", type=float, default=3600)
    options = parser.parse_args()
    folders = {int(file.parent.name): file.parent for file in options.folder.glob("*/saved_model.pb")}
    server = StandIn(options.name or options.folder.name, folders).start()
    print(json.dumps({"grpc": server.grpc, "rest": server.rest}), flush=True)
    # Ends with who started it, too: it then reads the end of its input.
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    ended.wait(options.seconds)
    sizes = [size for batcher in server.versions[max(folders)].batchers.values() for size in batcher.sizes]
    print(json.dumps({"batches": len(sizes), "photographs": sum(sizes)}), flush=True)
    server.stop()


if __name__ == "__main__":
    main()
