import http.server
import threading
import time

import numpy as np
import pytest

from tfface.errors import UserError
from tfface.serving.client import connect
from tfface.serving.connection import TOO_LARGE, ServerError


@pytest.fixture
def refusal(connection, server, jpegs):
    """The code of a call that must fail, after which the server answers as before."""

    def ask(call, code: str, message: str | None = None) -> None:
        with pytest.raises(ServerError, match=message) as caught:
            call()
        assert caught.value.code == code, caught.value
        assert connection.predict(1, "embed_jpeg", {"file": jpegs[:1]})["valid"].tolist() == [1]

    return ask


def test_what_is_served(connection):
    assert connection.states() == {1: "AVAILABLE"}
    found = connection.signatures(1)
    assert set(found) == {"serving_default", "embed_jpeg", "embed_jpeg_boxes", "verify"}
    assert found["embed_jpeg_boxes"].inputs == {"file": "DT_STRING", "box": "DT_FLOAT"}
    assert found["embed_jpeg"].outputs == {"embedding": "DT_FLOAT", "valid": "DT_INT32"}


def test_photographs_as_the_keras_model_embeds_them(connection, jpegs, expected):
    answer = connection.predict(1, "embed_jpeg", {"file": [jpegs[0], b"text", jpegs[1]]})
    assert answer["valid"].tolist() == [1, 0, 1]
    np.testing.assert_allclose(answer["embedding"][[0, 2]], expected(jpegs[:2]), atol=1e-5)
    assert answer["embedding"].dtype == np.float32


def test_no_such_model(server, protocol, jpegs):
    with connect(protocol, server.address(protocol), "other") as other:
        for call in (other.states, lambda: other.signatures(1), lambda: other.predict(1, "embed_jpeg", {"file": []})):
            with pytest.raises(ServerError) as caught:
                call()
            assert caught.value.code == "NOT_FOUND"


def test_no_such_version(connection, refusal, jpegs):
    refusal(lambda: connection.predict(7, "embed_jpeg", {"file": jpegs[:1]}), "NOT_FOUND", r"Specific\(tiny, 7\)")
    refusal(lambda: connection.signatures(7), "NOT_FOUND")


def test_no_such_signature(connection, refusal, jpegs):
    # So TensorFlow Serving's predict_util.cc has it.
    call = lambda: connection.predict(1, "embed_png", {"file": jpegs[:1]})  # noqa: E731
    refusal(call, "FAILED_PRECONDITION", 'key "embed_png" not found')


def test_wrong_inputs(connection, refusal, jpegs):
    refusal(lambda: connection.predict(1, "embed_jpeg", {}), "INVALID_ARGUMENT", "Missing but required: {file}")
    refusal(lambda: connection.predict(1, "embed_jpeg", {"picture": jpegs[:1]}), "INVALID_ARGUMENT")
    numbers = np.zeros((1, 4), np.float32)
    refusal(lambda: connection.predict(1, "embed_jpeg", {"file": numbers}), "INVALID_ARGUMENT")
    boxes = {"file": jpegs[:2], "box": numbers}
    refusal(lambda: connection.predict(1, "embed_jpeg_boxes", boxes), "INVALID_ARGUMENT", "equal 0th-dimension size")
    boxes = {"file": jpegs[:1], "box": np.zeros((1, 5), np.float32)}
    refusal(lambda: connection.predict(1, "embed_jpeg_boxes", boxes), "INVALID_ARGUMENT")
    crop = np.zeros((1, 8, 8, 3), np.float32)
    refusal(lambda: connection.predict(1, "serving_default", {"image": crop}), "INVALID_ARGUMENT")


def test_more_photographs_than_it_takes(connection, refusal):
    call = lambda: connection.predict(1, "embed_jpeg", {"file": [b"x"] * 33})  # noqa: E731
    refusal(call, "INVALID_ARGUMENT", "Task size 33 is larger than maximum batch size 32")


def test_larger_than_it_takes(server, jpegs):
    with connect("grpc", server.grpc, "tiny") as connection:
        with pytest.raises(ServerError, match="larger than max") as caught:
            connection.predict(1, "embed_jpeg", {"file": [bytes(200_000)]})
        assert caught.value.code == TOO_LARGE
        assert connection.predict(1, "embed_jpeg", {"file": jpegs[:1]})["valid"].tolist() == [1]


def test_slow(server, protocol, jpegs, monkeypatch):
    with connect(protocol, server.address(protocol), "tiny", deadline=0.4) as connection:
        monkeypatch.setattr(server, "delay", 1.0)
        begin = time.monotonic()
        with pytest.raises(ServerError) as caught:
            connection.predict(1, "embed_jpeg", {"file": jpegs[:1]})
        assert caught.value.code == "DEADLINE_EXCEEDED"
        assert time.monotonic() - begin < 0.9
        monkeypatch.setattr(server, "delay", 0.0)
        connection.deadline = 20
        assert connection.predict(1, "embed_jpeg", {"file": jpegs[:1]})["valid"].tolist() == [1]


def test_down(protocol, free_port):
    with connect(protocol, f"127.0.0.1:{free_port()}", "tiny", deadline=5) as connection:
        with pytest.raises(ServerError) as caught:
            connection.states()
        assert caught.value.code == "UNAVAILABLE"


def test_each_protocol_at_the_other_port(server):
    # gRPC takes it for a server that comes back.
    for protocol, codes in {"grpc": {"UNAVAILABLE"}, "rest": {"UNIMPLEMENTED", "UNAVAILABLE"}}.items():
        wrong = server.rest if protocol == "grpc" else server.grpc
        with connect(protocol, wrong, "tiny", deadline=5) as connection, pytest.raises(ServerError) as caught:
            connection.states()
        assert caught.value.code in codes


@pytest.mark.parametrize("server", ["localhost", "http://localhost:8501", "localhost:port", "a b:1", ":8500", ""])
def test_what_is_no_server(server):
    with pytest.raises(UserError, match="give HOST:PORT"):
        connect("rest", server, "tiny")


@pytest.fixture
def web():
    """A web server that answers every question with these bytes; `None` stands for a pause."""
    answers: list[bytes | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            for part in answers:
                if part is None:
                    time.sleep(0.15)
                else:
                    try:
                        self.wfile.write(part)
                        self.wfile.flush()
                    except OSError:
                        return

        def log_message(self, *_) -> None:
            pass

    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()

    def serve(*parts: bytes | None) -> str:
        answers[:] = parts
        return f"127.0.0.1:{found.server_port}"

    yield serve
    found.shutdown()
    found.server_close()


HEAD = b"HTTP/1.1 %d No\r\nContent-Length: %d\r\n\r\n"


@pytest.mark.parametrize(
    ("parts", "code", "message"),
    [
        ([HEAD % (429, 18), b'{"error": "queue"}'], "RESOURCE_EXHAUSTED", r"queue \(HTTP 429\)"),
        ([HEAD % (503, 0)], "UNAVAILABLE", "does not say why"),
        ([HEAD % (504, 0)], "DEADLINE_EXCEEDED", "504"),
        ([HEAD % (500, 4), b"oops"], "INTERNAL", "oops"),
        ([HEAD % (200, 13), b"<html></html>"], "UNIMPLEMENTED", "is not TensorFlow Serving's"),
        ([HEAD % (200, 2), b"[]"], "UNIMPLEMENTED", "is not TensorFlow Serving's"),
        ([HEAD % (200, 50), b"{"], "UNAVAILABLE", "breaks off"),
        ([b"220 mail.example ESMTP\r\n"], "UNIMPLEMENTED", "no HTTP is spoken"),
        ([], "UNAVAILABLE", None),
        # Never so long without a byte as the deadline, but longer in all.
        ([HEAD % (200, 50), *[b"{", None] * 20], "DEADLINE_EXCEEDED", "no answer within 0.5 s"),
    ],
)
def test_web_servers_of_all_kinds(web, parts, code, message):
    with connect("rest", web(*parts), "tiny", deadline=0.5) as connection:
        with pytest.raises(ServerError, match=message) as caught:
            connection.states()
        assert caught.value.code == code
