import numpy as np
import pytest

from tfface.artifacts.artifact import open_reader, reader_recipe
from tfface.artifacts.photographs import embed_photographs, verify
from tfface.data import open_photographs
from tfface.errors import ImageError, UserError
from tfface.evaluation.embeddings import embed_dataset
from tfface.evaluation.verify import verify as verify_with_keras
from tfface.preprocessing.images import NOT_GIVEN, crop_boxed, crop_files, read_faces, recipe


@pytest.fixture
def pair(tiny_faces):
    return tiny_faces / "Ann Ames" / "Ann Ames 0.jpg", tiny_faces / "Zoë Žák" / "Zoë Žák 1.jpg"


@pytest.fixture
def artifact(made):
    return made("tflite")


@pytest.fixture
def reader(artifact):
    return artifact.embedder()


def boxes_file(tmp_path, *lines: str):
    path = tmp_path / "boxes.csv"
    path.write_text("\n".join(["image,x,y,width,height", *lines]) + "\n")
    return path


@pytest.mark.parametrize("name", ["whole", "center-140"])
def test_crops_are_those_of_the_project(pair, name):
    files = [path.read_bytes() for path in pair]
    crops, boxes = crop_files(files, recipe(name), 32)
    for data, crop, box in zip(files, crops, boxes, strict=True):
        found, cut_out = crop_boxed(data, recipe(name), 32)
        np.testing.assert_allclose(found, crop, atol=2e-5)
        assert cut_out.tolist() == box.tolist()


@pytest.mark.parametrize("flip", [False, True])
def test_verify_answers_as_the_keras_model_does(tiny_embedder, artifact, pair, flip):
    expected = verify_with_keras(tiny_embedder, *pair, recipe="center-140", flip=flip)
    found = verify(artifact, *pair, recipe="center-140", flip=flip)
    assert found.distance == pytest.approx(expected.distance, abs=1e-5)
    assert (found.threshold, found.same) == (expected.threshold, expected.same)
    assert found.record["preset"] == "tiny/random"
    assert [box.tolist() for box in found.boxes] == [box.tolist() for box in expected.boxes]


def test_embed_answers_as_the_keras_model_does(tiny_embedder, reader, tiny_faces):
    (tiny_faces / "cid" / "broken.jpg").write_bytes(b"no image")
    photographs = open_photographs(tiny_faces)
    expected = embed_dataset(photographs, tiny_embedder, recipe("whole"))
    found = embed_photographs(photographs, reader, recipe("whole"))
    np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-3)
    assert found.ok.tolist() == expected.ok.tolist()
    assert found.failed == expected.failed == [("cid/broken.jpg", "is no image that can be read")]


def test_boxes_are_cut_out_by_path_or_name(artifact, pair, tmp_path):
    boxes = boxes_file(tmp_path, f"{pair[0]},10,20,30,40", f"{pair[1].name},0,0,20,20")
    found = verify(artifact, *pair, recipe="given-margin0.20", boxes=boxes)
    # Grown by a tenth on each side, and clipped.
    assert [box.tolist() for box in found.boxes] == [[7, 16, 43, 64], [0, 0, 22, 22]]


def test_photographs_without_a_box_are_counted(reader, tiny_faces, tmp_path):
    boxes = read_faces(boxes_file(tmp_path, "cid/cid 0.jpg,5,5,30,30", "Ann Ames/Ann Ames 0.jpg,900,5,30,30"))
    found = embed_photographs(open_photographs(tiny_faces), reader, recipe("given-margin0.0"), faces=boxes)
    assert found.ok.sum() == 1
    reasons = dict(found.failed)
    assert reasons["Ann Ames/Ann Ames 0.jpg"] == "has a face box that lies outside of it"
    assert reasons["Ann Ames/Ann Ames 1.jpg"] == NOT_GIVEN


@pytest.mark.parametrize(
    "line", ["x.jpg", "x.jpg,1,2,3", "x.jpg,1,2,3,4,5", "x.jpg,a,2,3,4", "x.jpg,1,2,0,4", "x.jpg,1,2,nan,4"]
)
def test_lines_that_are_no_boxes(tmp_path, line):
    path = boxes_file(tmp_path, "good.jpg,1,2,3,4", line)
    with pytest.raises(UserError, match=rf"{path}:3 is not an image and 4 numbers"):
        read_faces(path)


def test_a_file_without_the_header(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("x.jpg,1,2,3,4\n")
    with pytest.raises(UserError, match="must begin with the line image,x,y,width,height"):
        read_faces(path)


def test_a_bad_photograph_is_named(artifact, pair):
    pair[1].write_bytes(b"text")
    with pytest.raises(ImageError, match=rf"^{pair[1]}: is no image that can be read$"):
        verify(artifact, *pair, recipe="whole")


def test_which_recipe(made):
    artifact = made("tflite")
    assert reader_recipe(artifact, None, given=None).name == "center-140"
    assert reader_recipe(artifact, "whole", given=None).name == "whole"
    with pytest.raises(UserError, match=r"recipe mtcnn-v1-margin0.20 needs faces, .* give `boxes`"):
        reader_recipe(artifact, "mtcnn-v1-margin0.20", given=None)


def test_which_recipe_with_boxes(made):
    # This preset's own recipe takes no faces: boxes are cut out as they are.
    artifact = made("tflite")
    assert reader_recipe(artifact, None, given="box").name == "given-margin0.0"
    assert reader_recipe(artifact, "mtcnn-v1-margin0.20", given="box").name == "given-margin0.20"
    with pytest.raises(UserError, match="recipe whole takes no faces"):
        reader_recipe(artifact, "whole", given="box")


def test_a_saved_model_is_not_read_here(made):
    with pytest.raises(UserError, match="is a SavedModel, which only TensorFlow reads"):
        open_reader(made("savedmodel").path)
