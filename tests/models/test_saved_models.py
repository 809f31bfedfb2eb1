"""What is bundled: whole, loadable, within the size that a repository bears, and with its papers."""

import json
from pathlib import Path

import numpy as np
import pytest

from tfface.models import _embedder
from tfface.utils import registry
from tfface.utils.files import sha256_of

BUNDLED = [
    preset
    for architecture in registry.names("models")
    for preset in _embedder.presets(architecture)
    if isinstance(preset.sources[0], _embedder.weights.BundledSource)
]


def folder_of(preset: _embedder.Preset) -> Path:
    return _embedder.SAVED_MODELS / preset.name


def test_there_is_a_student():
    assert "student/lfw-distilled" in [preset.name for preset in BUNDLED]


@pytest.mark.parametrize("preset", BUNDLED, ids=lambda preset: preset.name)
def test_weights_are_those_of_the_record_and_embed(preset):
    assert sha256_of(folder_of(preset) / preset.file_name) == preset.sha256
    embedder = _embedder.load_embedder(preset.name, offline=True)
    images = np.random.default_rng(0).random((4, preset.input_size, preset.input_size, 3), np.float32)
    vectors = embedder.embed(images)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (vectors @ vectors.T)[~np.eye(4, dtype=bool)].max() < 0.999


@pytest.mark.parametrize("preset", BUNDLED, ids=lambda preset: preset.name)
def test_card_and_metrics_are_of_these_weights(preset):
    metrics = json.loads((folder_of(preset) / "metrics.json").read_text())
    card = (folder_of(preset) / "README.md").read_text()
    assert metrics["preset"] == preset.name and metrics["weights_sha256"] == preset.sha256
    assert preset.name in card and "python cli.py distill" in card
    known = [preset.threshold, *(value for _, value, _ in preset.other_thresholds)]
    assert metrics["validation"]["threshold"] in known
    assert metrics["heldout"]["fixed"]["threshold"] == preset.threshold and f"of {preset.threshold:.4f} (" in card
    assert (folder_of(preset) / "curves.png").is_file()


def test_all_of_it_stays_small():
    assert sum(path.stat().st_size for path in _embedder.SAVED_MODELS.rglob("*") if path.is_file()) < 80e6
