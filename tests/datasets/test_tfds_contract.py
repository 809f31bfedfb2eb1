"""TFDS's own checks of a builder, on each builder's miniature."""

import pytest

pytest.importorskip("dill", reason="TFDS's testing class needs it: pip install -r requirements-dev.txt")

import tensorflow_datasets as tfds

from tfface.data import prepared


class Contract(tfds.testing.DatasetBuilderTestCase):
    MINIATURE = ""

    @pytest.fixture(autouse=True)
    def miniature(self, request, monkeypatch):
        folder = request.getfixturevalue(self.MINIATURE).folder
        monkeypatch.setattr(type(self), "EXAMPLE_DIR", str(folder))

    def test_registered(self):
        """Ours are loaded by file path and not registered: TFDS's own `lfw` keeps its name."""
        name = self.DATASET_CLASS.name
        if name in tfds.list_builders(with_community_datasets=False):
            assert tfds.builder_cls(name) is not self.DATASET_CLASS


class TestFiveFaces(Contract):
    DATASET_CLASS = prepared.builder_class("five_faces")
    SPLITS = {"faces": 4}  # noqa: RUF012
    MINIATURE = "five_faces"


class TestOrlFaces(Contract):
    DATASET_CLASS = prepared.builder_class("orl_faces")
    SPLITS = {"faces": 3}  # noqa: RUF012
    MINIATURE = "orl_faces"


class TestLfw(Contract):
    DATASET_CLASS = prepared.builder_class("lfw")
    BUILDER_CONFIG_NAMES_TO_TEST = ("deepfunneled",)
    SPLITS = {"faces": 6}  # noqa: RUF012
    MINIATURE = "lfw"


class TestVggFace2(Contract):
    DATASET_CLASS = prepared.builder_class("vggface2")
    BUILDER_CONFIG_NAMES_TO_TEST = ("test",)
    SPLITS = {"faces": 4}  # noqa: RUF012
    MINIATURE = "vggface2"


del Contract  # a base, no test of its own
