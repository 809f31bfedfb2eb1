import json
from types import SimpleNamespace

import numpy as np
import pytest

from tfface.artifacts import making
from tfface.artifacts.export import cosines, entry, judge
from tfface.artifacts.golden import golden_pair
from tfface.artifacts.measure import milliseconds, peak_megabytes
from tfface.errors import UserError
from tfface.preprocessing.images import recipe


def test_cosines_by_hand():
    # (3, 4) and (4, 3): 24 / 25; opposite; at a right angle; lengths do not count.
    first = np.array([[3, 4], [1, 0], [0, 2], [1, 1]])
    second = np.array([[4, 3], [-2, 0], [5, 0], [9, 9]])
    assert cosines(first, second) == pytest.approx([0.96, -1, 0, 1])


def test_the_entry_of_an_artifact(made):
    artifact = made("tflite")
    found, keras = np.array([[3.0, 4.0], [0.0, 1.0]]), np.array([[4.0, 3.0], [0.0, 1.0]])
    result = entry(
        artifact,
        artifact.path.parents[1],
        (found, keras),
        ms=1.5,
        peak_megabytes=40.0,
        evaluation={"calibrated": {"threshold": 0.55}},
        keras={"evaluate": {"calibrated": {"threshold": 0.6}}},
    )
    assert result["path"] == "tiny-random-float32/tiny-random-float32.tflite"
    assert (result["embedding_cosine_min"], result["embedding_cosine_mean"]) == pytest.approx((0.96, 0.98))
    assert result["threshold_shift"] == pytest.approx(-0.05)
    assert (result["ms"], result["quantization"], result["bytes"]) == (1.5, "none", artifact.bytes)


def test_golden_inputs_stand_in_where_nothing_is_evaluated(made, tiny_embedder):
    found, keras = golden_pair(made("tflite"), tiny_embedder.embed)
    assert found.shape == keras.shape == (4, 16)
    assert cosines(found, keras).min() > 1 - 1e-6


def test_a_data_set_is_judged_through_the_artifact(made, tiny_embedder, tiny_faces, monkeypatch):
    from tfface.data.folder import open_folder

    dataset, artifact = open_folder(tiny_faces), made("tflite", "int8")
    embeddings, metrics = judge(artifact.embedder(), dataset, recipe("whole"), protocol="all-pairs")
    expected, ours = judge(tiny_embedder, dataset, recipe("whole"), protocol="all-pairs")
    assert (metrics["dataset"], metrics["recipe"], metrics["images"]) == ("folder:tiny faces", "whole", 10)
    assert metrics["auc"] == pytest.approx(ours["auc"], abs=0.05)
    # Not the Keras model's from the cache: the artifact's hash names them.
    assert np.abs(embeddings.vectors - expected.vectors).max() > 1e-4
    monkeypatch.setattr(type(artifact.embedder()), "embed", lambda *_: pytest.fail("embedded again"))
    again, _ = judge(artifact.embedder(), dataset, recipe("whole"), protocol="all-pairs")
    assert np.array_equal(again.vectors, embeddings.vectors)


def test_time_is_taken_by_turns():
    calls = []

    def named(name):
        return SimpleNamespace(
            preset=SimpleNamespace(input_size=4), embed=lambda images: calls.append((name, images.shape))
        )

    found = milliseconds({"a": named("a"), "b": named("b")}, rounds=3)
    assert [name for name, _ in calls] == ["a", "b"] * 5
    assert calls[0][1] == (1, 4, 4, 3)
    assert all(0 <= value < 1000 for value in found.values())


def test_memory_is_that_of_a_process_of_its_own(made):
    # Python, NumPy and the interpreter, without TensorFlow, which alone takes several hundred.
    ballast = np.ones(60_000_000)
    assert 20 < peak_megabytes(made("tflite").path) < 400
    assert ballast.sum()


def test_what_cannot_be_run_has_no_memory(tmp_path):
    with pytest.raises(UserError, match=r"cannot be run in a process of its own: .*is no artifact"):
        peak_megabytes(tmp_path)


class TestMaking:
    def test_orders_are_the_product(self, tiny_embedder):
        found = making.orders(tiny_embedder, recipe("whole"), ("tflite", "savedmodel", "tflite"), ("none", "int8"))
        assert [(order.format, order.quantization, order.name) for order in found] == [
            ("tflite", "none", "tiny-random-float32"),
            ("tflite", "int8", "tiny-random-int8"),
            ("savedmodel", "none", "tiny-random"),
        ]

    def test_a_saved_model_is_not_quantised(self, tiny_embedder):
        with pytest.raises(UserError, match=r"`quantize` int8 needs `format` tflite"):
            making.orders(tiny_embedder, recipe("whole"), ("savedmodel",), ("int8",))

    def test_the_same_is_made_once(self, make_order, tmp_path, monkeypatch):
        first = making.make(make_order("tflite"), tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(making, "_write_tflite", lambda *_: pytest.fail("made again"))
            assert making.make(make_order("tflite"), tmp_path).sha256 == first.sha256
        other = making.make(make_order("tflite", cut="whole"), tmp_path)
        assert other.recipe == "whole"
        assert json.loads((other.path.parent / "golden.json").read_text())["recipe"] == "whole"

    def test_a_failure_leaves_no_record(self, make_order, tmp_path, monkeypatch):
        order = make_order("savedmodel")

        def fail(*_):
            raise UserError("disk full")

        monkeypatch.setattr(making.golden, "write_golden", fail)
        with pytest.raises(UserError, match="disk full"):
            making.make(order, tmp_path)
        assert not (tmp_path / "tiny-random" / "1.json").exists()

    def test_the_card_says_what_matters(self, made):
        text = (made("tflite", "int8").path.parent / "README.md").read_text()
        for part in ("tiny/random", "center-140", "cosine distance up to 0.2 matches", "6 photographs of 3 people"):
            assert part in text
        assert "Not evaluated" in text
