"""TensorFlow Serving's REST interface, by the standard library alone."""

import base64
import http.client
import json
import time
import urllib.parse
from typing import Any

import numpy as np

from tfface.serving.connection import TOO_LARGE, Connection, Inputs, ServerError, Signature

_CODES = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    412: "FAILED_PRECONDITION",
    413: TOO_LARGE,
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""gRPC code by the HTTP status that the server makes of it."""
_PIECE = 2**20


class RestConnection(Connection):
    """A model reached over HTTP, unencrypted."""

    protocol = "rest"

    def __init__(self, server: str, model: str, *, deadline: float = 30.0) -> None:
        super().__init__(server, model, deadline=deadline)
        self._path = f"/v1/models/{urllib.parse.quote(model, safe='')}"

    def states(self) -> dict[int, str]:
        answer = self._call("GET", self._path)
        return _read(lambda: {int(entry["version"]): entry["state"] for entry in answer["model_version_status"]})

    def signatures(self, version: int) -> dict[str, Signature]:
        answer = self._call("GET", f"{self._path}/versions/{version}/metadata")

        def kinds(infos: dict[str, Any]) -> dict[str, str]:
            return {name: info["dtype"] for name, info in infos.items()}

        return _read(
            lambda: {
                name: Signature(kinds(found["inputs"]), kinds(found["outputs"]))
                for name, found in answer["metadata"]["signature_def"]["signature_def"].items()
            }
        )

    def predict(self, version: int, signature: str, inputs: Inputs) -> dict[str, np.ndarray]:
        body = {"signature_name": signature, "inputs": {name: _to_json(value) for name, value in inputs.items()}}
        answer = self._call("POST", f"{self._path}/versions/{version}:predict", body)
        return _read(lambda: {name: _to_array(value) for name, value in answer["outputs"].items()})

    def close(self) -> None:
        """Every call has a connection of its own."""

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        end = time.monotonic() + self.deadline
        try:
            status, data = self._exchange(method, path, None if body is None else json.dumps(body).encode(), end)
        except TimeoutError as error:
            raise ServerError("DEADLINE_EXCEEDED", f"no answer within {self.deadline:g} s") from error
        except OSError as error:  # refused, reset, no such host
            raise ServerError("UNAVAILABLE", str(error)) from error
        except (http.client.HTTPException, ValueError) as error:
            raise ServerError("UNIMPLEMENTED", f"no HTTP is spoken there ({type(error).__name__})") from error
        try:
            answer = json.loads(data)
        except ValueError:
            answer = {"error": data[:200].decode(errors="replace")}
        if status != 200:
            message = answer.get("error") if isinstance(answer, dict) else None
            raise ServerError(_CODES.get(status, "INTERNAL"), f"{message or 'it does not say why'} (HTTP {status})")
        return answer

    def _exchange(self, method: str, path: str, body: bytes | None, end: float) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.server, timeout=self.deadline)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            pieces = []
            # A server that sends a byte now and then would keep each read within the time.
            while piece := answer.read1(_PIECE):
                pieces.append(piece)
                if time.monotonic() > end:
                    raise TimeoutError
            if answer.length:
                raise ConnectionResetError("the answer breaks off")
            return answer.status, b"".join(pieces)
        finally:
            connection.close()


def _read(extract: Any) -> Any:
    try:
        return extract()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ServerError("UNIMPLEMENTED", f"its answer is not TensorFlow Serving's ({error!r} in it)") from error


def _to_json(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [{"b64": base64.b64encode(data).decode()} for data in value]


def _to_array(value: Any) -> np.ndarray:
    found = np.array(value)
    return found.astype(np.float32) if found.dtype == np.float64 else found
