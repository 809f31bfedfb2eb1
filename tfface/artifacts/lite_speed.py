"""A student's speed on a phone's runtime, beside its teacher's."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfface.artifacts.making import Order, make
from tfface.artifacts.measure import milliseconds
from tfface.preprocessing.images import recipe

if TYPE_CHECKING:
    from tfface.models._embedder import Embedder


def lite_speed(student: "Embedder", teacher: "Embedder") -> dict[str, Any]:
    """Both as unquantised TFLite files, one image at a time, by turns in one run.

    Returns:
        JSON-able: `ms` of each for one image (medians), and `speedup`, the teacher's by the student's.
    """
    with tempfile.TemporaryDirectory() as folder:
        artifacts = {
            name: make(Order(embedder, recipe(embedder.preset.recipe), "tflite", "none"), Path(folder) / name)
            for name, embedder in (("student", student), ("teacher", teacher))
        }
        found = milliseconds({name: artifact.embedder() for name, artifact in artifacts.items()})
    return {"ms": found, "speedup": found["teacher"] / found["student"]}
