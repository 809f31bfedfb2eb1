"""Artifacts of a preset that aligns by five points: the same pixels in a graph, in a reader and through a server."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tests.serving.stand_in import StandIn
from tfface.artifacts.artifact import fixed_recipe, reader_recipe, typical_recipe
from tfface.artifacts.export import export
from tfface.artifacts.golden import check, drawn_photograph, jpeg_of
from tfface.artifacts.making import Calibration, Order, make
from tfface.artifacts.photographs import embed, verify
from tfface.artifacts.saved_model import Service
from tfface.data.crops import Crops
from tfface.errors import UserError
from tfface.preprocessing import mtcnn
from tfface.preprocessing.images import crop_boxed, given_faces, in_fractions, read_faces, recipe
from tfface.serving import calls
from tfface.serving.client import Client

FACE = np.array([32, 43, 50, 44, 41, 52, 34, 62, 48, 61], float)
HEADER = "image,x0,y0,x1,y1,x2,y2,x3,y3,x4,y4"


@pytest.fixture(scope="module", params=["align5-112", "dlib-chip-padding0.25"])
def aligned(request, tiny_embedder):
    return dataclasses.replace(tiny_embedder, preset=dataclasses.replace(tiny_embedder.preset, recipe=request.param))


@pytest.fixture(scope="module")
def usual(tiny_embedder):
    return dataclasses.replace(tiny_embedder, preset=dataclasses.replace(tiny_embedder.preset, recipe="align5-112"))


@pytest.fixture(scope="module")
def saved(usual, tmp_path_factory):
    return make(Order(usual, recipe("center-140"), "savedmodel", "none"), tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def lite(usual, tmp_path_factory):
    return make(Order(usual, recipe("center-140"), "tflite", "none"), tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for number in range(2):
        (folder / f"{number}.jpg").write_bytes(jpeg_of(drawn_photograph(number, 100, 82), lying=number == 1))
    return sorted(folder.iterdir())


def points_file(folder, *lines: str):
    path = folder / "points.csv"
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


def line_of(name: str, face: np.ndarray = FACE) -> str:
    return ",".join([name, *map(str, face)])


def expected_of(embedder, data: bytes, face: np.ndarray = FACE) -> np.ndarray:
    crop, _ = crop_boxed(data, recipe(f"given-{embedder.preset.recipe}"), embedder.preset.input_size, face)
    return embedder.embed(crop[None])[0]


def test_the_graph_sees_the_same_pixels(aligned, photographs):
    service = Service(aligned.model, aligned.preset, recipe("whole"))
    assert set(service.signatures()) == {"serving_default", "embed_jpeg", "embed_jpeg_points", "verify"}
    files = [path.read_bytes() for path in photographs]
    moved = FACE + np.tile([6, -4], 5)
    points = [in_fractions(FACE, files[0]), in_fractions(moved, files[1])]
    answer = service.signatures()["embed_jpeg_points"](tf.constant(files), tf.constant(points, tf.float32))
    assert answer["valid"].numpy().tolist() == [1, 1]
    expected = [expected_of(aligned, files[0]), expected_of(aligned, files[1], moved)]
    np.testing.assert_allclose(answer["embedding"], expected, atol=1e-4)


def test_points_that_are_none(saved, photographs):
    data = photographs[0].read_bytes()
    good = np.array(in_fractions(FACE, data))
    missing = good.copy()
    missing[4] = np.nan
    exchanged = good.reshape(5, 2)[[1, 0, 2, 4, 3]].ravel()
    faces = [good, np.full(10, 0.5), missing, np.full(10, np.inf), good + 5, good - 0.35, np.zeros(10), exchanged]
    reader = saved.embedder()
    answer = reader.call("embed_jpeg_points", file=[data] * len(faces), points=np.array(faces, np.float32))
    assert answer["valid"].tolist() == [1, 0, 0, 0, 0, 1, 0, 0], "one that lies half outside is cut out"
    bad = reader.call("embed_jpeg_points", file=[b"text"], points=np.array([good], np.float32))
    assert bad["valid"].tolist() == [0]


def test_golden_inputs_and_warm_up_requests(saved, lite):
    for artifact in (saved, lite):
        path = artifact.path.parent / "golden.json"
        faces = [entry for entry in json.loads(path.read_text())["inputs"] if entry["kind"] == "face"]
        assert [len(entry["points"]) for entry in faces] == [10]
        assert faces[0]["embedding"] is not None
        assert all(answer.passed for answer in check(artifact, path))
    asked = {}
    for record in tf.data.TFRecordDataset(str(saved.path / "assets.extra" / "tf_serving_warmup_requests")):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        asked[request.model_spec.signature_name] = saved.embedder().call(request.model_spec.signature_name, **inputs)
    assert asked["embed_jpeg_points"]["valid"].all()


def test_record_and_card_say_where_the_points_belong(saved, lite, usual):
    for artifact in (saved, lite):
        alignment = artifact.record["alignment"]
        assert np.array(alignment["template"]) == pytest.approx(np.array(recipe("align5-112").template))
        assert alignment["points"].startswith("left eye, right eye, nose")
    assert saved.record["signatures"]["embed_jpeg_points"]["points"]["order"].startswith("x0, y0")
    card = (saved.path.parent / "README.md").read_text()
    assert "`embed_jpeg_points`: `file` and `points`" in card
    assert "embed_jpeg_boxes" not in card


def test_a_reader_takes_points_from_a_file(lite, usual, photographs, tmp_path):
    points = points_file(tmp_path, line_of(str(photographs[0])), line_of("1.jpg"))
    found = verify(lite, *photographs, points=points)
    a, b = (expected_of(usual, path.read_bytes()) for path in photographs)
    assert found.distance == pytest.approx(1 - float(a @ b), abs=1e-5)
    assert found.record["recipe"] == "given-align5-112"
    cut = recipe("align5-112").box(100, 82, FACE)
    assert found.boxes[0] == pytest.approx(cut)
    points = points_file(tmp_path, line_of("0.jpg", np.full(10, 7.0)), line_of("1.jpg"))
    vectors = embed(lite, photographs[0].parent, points=points).embeddings
    assert vectors.failed == [("0.jpg", "has five points that coincide")]
    np.testing.assert_allclose(vectors.vectors[1], b, atol=1e-5)


def test_recipes_of_an_artifact_that_aligns(lite, usual):
    assert fixed_recipe(None, usual.preset).name == "center-140"
    with pytest.raises(UserError, match=r"five points of your own detector to the signature embed_jpeg_points"):
        fixed_recipe("align5-112", usual.preset)
    assert reader_recipe(lite, None, given=None).name == "center-140"
    assert reader_recipe(lite, None, given="points").name == "given-align5-112"
    assert reader_recipe(lite, "given-align5-128", given="points").name == "given-align5-128"
    with pytest.raises(UserError, match=r"recipe align5-112 needs faces, .* give `points`"):
        reader_recipe(lite, "align5-112", given=None)
    with pytest.raises(UserError, match=r"recipe align5-112 cuts out no face .* `boxes`: give `points` instead"):
        reader_recipe(lite, None, given="box")
    with pytest.raises(
        UserError, match=r"margin0.20 cuts out no face .* `points`: give `boxes`, or a recipe like align5"
    ):
        reader_recipe(lite, "mtcnn-v1-margin0.20", given="points")
    with pytest.raises(UserError, match="recipe whole takes no faces: leave out `points`"):
        reader_recipe(lite, "whole", given="points")


@pytest.mark.parametrize("line", ["x.jpg", line_of("x.jpg", FACE[:9]), line_of("x.jpg") + ",1", "x.jpg" + ",nan" * 10])
def test_lines_that_are_no_points(tmp_path, line):
    path = points_file(tmp_path, line_of("good.jpg"), line)
    with pytest.raises(UserError, match=rf"^{path}:3 is not an image and 10 numbers x0,y0,x1,y1"):
        read_faces(path, "points")


def test_files_of_another_kind(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("image,x,y,width,height\na.jpg,1,2,3,4\n")
    with pytest.raises(UserError, match=rf"^{path} must begin with the line {HEADER}$"):
        given_faces(None, path)
    with pytest.raises(UserError, match="`boxes` and `points` are two ways"):
        given_faces(path, path)
    assert given_faces(None, None) == (None, None)


class TestServed:
    @pytest.fixture(scope="class")
    def server(self, saved):
        stand_in = StandIn("tiny", {1: saved.path}).start()
        yield stand_in
        stand_in.stop()

    @pytest.mark.parametrize("protocol", ["grpc", "rest"])
    def test_points_are_sent(self, server, protocol, saved, usual, photographs, tmp_path):
        points = points_file(tmp_path, line_of("0.jpg"), line_of("1.jpg", np.zeros(10)))
        options = {"server": server.address(protocol), "protocol": protocol, "model": "tiny", "artifact": saved.path}
        found = calls.embed(photographs, points=points, **options)
        assert found.record["signature"] == "embed_jpeg_points"
        np.testing.assert_allclose(found.vectors[0], expected_of(usual, photographs[0].read_bytes()), atol=1e-4)
        assert [reason for _, reason in found.embeddings.failed] == [
            "is no JPEG or PNG file that the server can read, or its five points are no face's inside of it"
        ]

    def test_boxes_are_not_taken(self, server):
        with pytest.raises(UserError, match=r"no signature embed_jpeg_boxes of file and box.*: give `points` instead$"):
            Client(server.address("rest"), protocol="rest", model="tiny", given="box")


def test_it_is_calibrated_and_evaluated_at_its_own_crops(usual, some_faces, tmp_path, monkeypatch):
    face = mtcnn.Faces(np.array([[10, 10, 40, 40]], np.float32), np.ones(1, np.float32), FACE.reshape(1, 5, 2))
    monkeypatch.setattr(mtcnn, "detect", lambda photographs: [face for _ in photographs])
    options = {"format": "tflite", "quantize": "int8", "calibration": some_faces, "dataset": some_faces}
    found = export(usual, tmp_path, evaluate=True, protocol="all-pairs", **options).metrics
    assert found["recipe"] == "center-140"
    assert [entry["evaluate"]["recipe"] for entry in (found["keras"], *found["artifacts"])] == ["align5-112"] * 2
    crops = Calibration(some_faces, "anybody").images(typical_recipe(recipe("whole"), usual.preset), 32)
    assert crops == pytest.approx(Crops(some_faces, recipe("align5-112"), 32)(np.arange(len(some_faces)))[0], abs=1e-6)


def test_without_a_threshold_nothing_is_made(usual, tmp_path):
    unknown = dataclasses.replace(usual, preset=dataclasses.replace(usual.preset, threshold=None))
    with pytest.raises(UserError, match="tfface calibrate"):
        export(unknown, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="tfface calibrate"):
        Service(unknown.model, unknown.preset, recipe("whole"))
