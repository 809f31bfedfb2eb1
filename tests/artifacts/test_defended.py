"""Exports of a defended model: what can be held is, and what cannot says which part."""

import numpy as np
import pytest

from tfface.artifacts.artifact import open_artifact
from tfface.artifacts.making import Order, make, orders
from tfface.defenses._stack import apply
from tfface.errors import UserError
from tfface.preprocessing.images import recipe


@pytest.fixture
def order(tiny_embedder):
    def build(format, *texts):
        return Order(apply(tiny_embedder, texts), recipe("center-140"), format, "none")

    return build


# All of them; what rounds comes last, since a value between two levels may fall to either.
STACKS = [["resize-pad", "noise:copies=2", "median"], ["bit-depth", "jpeg:real=0"]]


@pytest.mark.parametrize("texts", [*STACKS, ["jpeg"]])
def test_a_saved_model_holds_every_defense(texts, order, crops, tmp_path):
    asked = order("savedmodel", *texts)
    artifact = open_artifact(make(asked, tmp_path).path)
    assert artifact.record["defense"] == list(asked.embedder.defense)
    reader = artifact.embedder()
    assert reader.defense == asked.embedder.defense
    np.testing.assert_allclose(reader.embed(crops), asked.embedder.embed(crops), atol=1e-5)


@pytest.mark.parametrize("texts", STACKS)
def test_tflite_holds_what_is_arithmetic(texts, order, crops, tmp_path):
    asked = order("tflite", *texts)
    artifact = make(asked, tmp_path)
    assert "| defense | " + " then ".join(asked.embedder.defense) in (artifact.path.parent / "README.md").read_text()
    np.testing.assert_allclose(artifact.embedder().embed(crops), asked.embedder.embed(crops), atol=1e-4)


def test_a_coder_is_replaced_by_its_arithmetic_in_tflite(tiny_embedder, capsys):
    cut = recipe("center-140")
    saved, lite = orders(apply(tiny_embedder, "median", "jpeg:quality=60"), cut, ["savedmodel", "tflite"], ["none"])
    assert saved.embedder.defense == ("median:window=2", "jpeg:quality=60,real=1")
    assert lite.embedder.defense == ("median:window=2", "jpeg:quality=60,real=0")
    assert "jpeg:quality=60,real=0 is used" in capsys.readouterr().err
    plain = apply(tiny_embedder, "bit-depth")
    assert orders(plain, cut, ["tflite"], ["none"])[0].embedder is plain


def test_tflite_says_which_part_it_cannot_hold(order, tmp_path):
    said = (
        r"no builtin operation for DecodeJpeg, EncodeJpegVariableQuality.* \(layer jpeg.*\); export it as a SavedModel"
    )
    with pytest.raises(UserError, match=said):
        make(order("tflite", "bit-depth", "jpeg"), tmp_path)


def test_defended_artifacts_lie_beside_the_plain_one(order, tmp_path):
    names = [order("tflite", *texts).path(tmp_path).parent.name for texts in ((), ("jpeg",), ("jpeg:quality=50",))]
    assert names == [
        "tiny-random-float32",
        "tiny-random+jpeg-quality-75-real-1-float32",
        "tiny-random+jpeg-quality-50-real-1-float32",
    ]
    assert "defense" not in order("tflite").facts()
