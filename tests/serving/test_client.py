import threading

import cv2
import numpy as np
import pytest

from tests.preprocessing.photographs import TURNED, file_of, rgb_profile, scene
from tests.serving.stand_in import Refusal, StandIn
from tfface.artifacts.golden import drawn_photograph, jpeg_of
from tfface.errors import ImageError, UserError
from tfface.preprocessing.images import crop_resize, decode
from tfface.serving import client as serving_client
from tfface.serving.client import Client, Photograph, batches, connect, read, with_face
from tfface.serving.connection import Retry

QUICK = Retry(retries=3, first=0.01)


@pytest.fixture
def client(connection) -> Client:
    return Client(connection, retries=QUICK)


@pytest.fixture
def files(jpegs, tmp_path):
    paths = [tmp_path / f"{number}.jpg" for number in range(len(jpegs))]
    for path, data in zip(paths, jpegs, strict=True):
        path.write_bytes(data)
    return paths


def test_embeds_in_batches_and_names_what_it_cannot(client, files, jpegs, expected, server):
    files[1].write_bytes(jpegs[1][:300])
    files[4].write_bytes(b"")
    missing = files[0].with_name("missing.jpg")
    server.calls.clear()
    found = client.embed([*files, missing], batch=3)
    assert server.calls == ["embed_jpeg"] * 2, "the seventh is not even sent"
    assert found.ok.tolist() == [True, False, True, True, False, True, False]
    np.testing.assert_allclose(found.vectors[found.ok], expected([jpegs[place] for place in (0, 2, 3, 5)]), atol=1e-5)
    assert not found.vectors[~found.ok].any()
    reasons = dict(found.failed)
    assert list(reasons) == [str(files[1]), str(files[4]), str(missing)]
    assert reasons[str(files[1])] == "is no JPEG or PNG file that the server can read"
    assert reasons[str(missing)] == "cannot be read: No such file or directory"


def test_nothing_that_can_be_used(client, tmp_path):
    (tmp_path / "text.jpg").write_bytes(b"text")
    found = client.embed([tmp_path / "text.jpg"], batch=4)
    assert (found.ok.tolist(), len(found.failed), len(found.vectors)) == ([False], 1, 1)
    assert client.embed([], batch=4).failed == []


def test_boxes(connection, jpegs, files, tiny_embedder):
    client = Client(connection, given="box", retries=QUICK)
    boxes = {"0.jpg": np.array([10, 20, 40, 50]), "1.jpg": np.array([500, 20, 40, 50]), str(files[3]): np.ones(4)}
    files[3].write_bytes(b"text")
    found = client.embed(files[:4], batch=16, faces=boxes)
    assert found.ok.tolist() == [True, False, False, False]
    pixels = cv2.cvtColor(cv2.imdecode(np.frombuffer(jpegs[0], np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    # x 10 to 50, y 20 to 70.
    crop = crop_resize(pixels, np.array([10, 20, 50, 70], np.float32), 32).numpy()
    np.testing.assert_allclose(found.vectors[0], tiny_embedder.embed(crop[None])[0], atol=1e-4)
    assert [reason for _, reason in found.failed] == [
        "is no JPEG or PNG file that the server can read, or its face box lies outside of it",
        "has no line in the file of faces",
        "is no image that can be read",
    ]


def test_a_box_is_of_the_upright_photograph():
    data = jpeg_of(drawn_photograph(0, 200, 100), lying=True)
    assert with_face(data, np.array([10, 20, 40, 50])).face.tolist() == pytest.approx([0.1, 0.1, 0.35, 0.5])


def test_batches_are_bounded(monkeypatch):
    monkeypatch.setattr(serving_client, "BATCH_BYTES", 10)
    error = ImageError("no")
    found = [Photograph(bytes(size)) for size in (4, 6, 1, 25, 2)] + [error] * 3
    groups = list(batches(found, 3))
    assert [[place for place, _ in group] for group in groups] == [[0, 1], [2], [3], [4, 5, 6], [7]]
    assert list(batches([], 3)) == []


def test_what_a_server_does_not_read_rightly_is_sent_as_a_png(tmp_path):
    profiled = file_of(scene(), "JPEG", icc_profile=rgb_profile(curve=1.8))
    sources = [TURNED["avif"](6), file_of(scene(), "WEBP"), profiled, TURNED["png, raw profile"](6), TURNED["jpeg"](6)]
    paths = [tmp_path / f"{place}" for place in range(len(sources))]
    for path, source in zip(paths, sources, strict=True):
        path.write_bytes(source)
    sent = [photograph.data for photograph in read(paths)]
    assert [data.startswith(b"\x89PNG") for data in sent] == [True] * 4 + [False]
    assert all(np.array_equal(decode(data), decode(source)) for data, source in zip(sent, sources, strict=True))
    assert sent[-1] == sources[-1]


def test_photographs_are_read_one_by_one(files):
    reading = read([files[0], files[1]])
    next(reading)
    files[1].write_bytes(b"new")
    assert next(reading).data == b"new"


def test_busy_for_a_while(client, server, jpegs):
    for code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"):
        server.fail = [Refusal(code, "busy")] * 3
        _, valid = client.ask([Photograph(jpegs[0])])
        assert valid.all() and not server.fail


def test_busy_for_longer(client, server, jpegs, protocol):
    server.fail = [Refusal("RESOURCE_EXHAUSTED", "busy")] * 4
    with pytest.raises(UserError) as caught:
        client.ask([Photograph(jpegs[0])])
    message = str(caught.value)
    assert message.startswith(f"{server.address(protocol)} ({protocol}, model 'tiny'): busy")
    assert "[RESOURCE_EXHAUSTED, tried 4 times]: it has too much to do" in message


def test_a_refusal_is_not_tried_again(client, server, jpegs):
    server.calls.clear()
    server.fail = [Refusal("INVALID_ARGUMENT", "no")]
    with pytest.raises(UserError, match=r"no.*\[INVALID_ARGUMENT\]: its batching_parameters_file says"):
        client.ask([Photograph(jpegs[0])])
    assert len(server.calls) == 1


def test_down_and_up_again(artifact, jpegs, protocol, free_port):
    ports = free_port(), free_port()
    later: list[StandIn] = []
    rise = threading.Timer(0.6, lambda: later.append(StandIn("tiny", {1: artifact.path}, ports=ports).start()))
    rise.start()
    address = f"127.0.0.1:{ports[protocol == 'rest']}"
    with connect(protocol, address, "tiny", deadline=20) as connection:
        # However short the drawn waits, they last longer than the server is down.
        retry = Retry(retries=400, first=0.2, longest=0.2)
        client = Client(connection, retries=retry)
        assert client.ask([Photograph(jpegs[0])])[1].all()
        rise.join()
        later[0].stop()
        client.retry = QUICK
        with pytest.raises(UserError, match=r"UNAVAILABLE, tried 4 times\]: is it up, and is this its port"):
            client.ask([Photograph(jpegs[0])])


class TestWhatIsServed:
    def test_the_highest_version_that_answers(self, connection, server, artifact, monkeypatch):
        monkeypatch.setattr(server, "states", {1: "AVAILABLE", 2: "LOADING", 3: "END"})
        assert Client(connection, retries=QUICK).version == 1
        assert Client(connection, version=1, retries=QUICK).version == 1

    def test_another_version(self, connection, server, protocol):
        with pytest.raises(UserError) as caught:
            Client(connection, version=2, retries=QUICK)
        address = server.address(protocol)
        assert str(caught.value) == f"{address} serves no version 2 of the model 'tiny'; versions: 1 (AVAILABLE)"

    def test_none_that_answers(self, connection, server, monkeypatch):
        monkeypatch.setattr(server, "states", {1: "END"})
        with pytest.raises(UserError, match=r"no version that can be asked of the model 'tiny'; versions: 1 \(END\)"):
            Client(connection, retries=QUICK)

    def test_still_loading(self, connection, server, monkeypatch):
        monkeypatch.setattr(server, "states", {1: "LOADING"})
        with pytest.raises(UserError, match=r"loads the model still; versions: 1 \(LOADING\) \[UNAVAILABLE, tried 4"):
            Client(connection, retries=QUICK)
        threading.Timer(0.3, lambda: server.states.update({1: "AVAILABLE"})).start()
        assert Client(connection, retries=Retry(retries=400, first=0.1, longest=0.1)).version == 1

    def test_another_model(self, server, protocol):
        with (
            connect(protocol, server.address(protocol), "face/net") as other,
            pytest.raises(UserError, match=r"serves no model 'face/net': give the name in its models.config"),
        ):
            Client(other, retries=QUICK)

    def test_a_model_of_another_kind(self, connection, server, monkeypatch):
        definitions = dict(server.versions[1].definitions)
        definitions["embed_jpeg"] = definitions["verify"]
        monkeypatch.setattr(server.versions[1], "definitions", definitions)
        with pytest.raises(UserError, match="has no signature embed_jpeg of file, only embed_jpeg, embed_jpeg_boxes"):
            Client(connection, retries=QUICK)
        monkeypatch.setattr(server.versions[1], "definitions", {"classify": definitions["verify"]})
        with pytest.raises(UserError, match="of file and box, only classify: it is no export"):
            Client(connection, given="box", retries=QUICK)

    @pytest.mark.parametrize("given", [None, "box"])
    def test_it_answers_as_the_artifact_does(self, connection, artifact, given, server, monkeypatch):
        client = Client(connection, given=given, retries=QUICK)
        client.check_artifact(artifact)
        batcher = server.versions[1].batchers[client.signature]
        answer = batcher.call

        def mirrored(inputs):
            return {name: value[..., ::-1] for name, value in answer(inputs).items()}

        monkeypatch.setattr(batcher, "call", mirrored)
        with pytest.raises(UserError, match=r"otherwise than .* it serves another model"):
            client.check_artifact(artifact)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"embedding": np.zeros((1, 4))}, "the answer has no 'valid'"),
        ({"embedding": np.zeros((2, 4)), "valid": np.ones(2)}, "2 embeddings for 1 photographs"),
        ({"embedding": np.zeros(4), "valid": np.ones(1)}, "4 embeddings for 1 photographs"),
        ({"embedding": np.full((1, 4), np.nan), "valid": np.ones(1)}, "embeddings that are no numbers"),
    ],
)
def test_answers_that_are_none(connection, outputs, message, monkeypatch):
    client = Client(connection, retries=QUICK)
    monkeypatch.setattr(connection, "predict", lambda *_: outputs)
    with pytest.raises(UserError, match=rf"{message} \[INTERNAL\]: see the server's own log"):
        client.ask([Photograph(b"")])
