"""From a training's best epoch to a preset: a compact weights file and its record.

The file is HDF5: `layers/<layer's name>/vars/0`, `1`, ... in the order of the layer's weights, as
Keras 3 lays them out, but named. Kernels are float16; biases and batch normalisation stay float32,
since a variance may be beyond float16's range. `tfface.models._h5` reads it like Keras's own.
"""

import dataclasses
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from tfface.models._embedder import Preset
from tfface.models._low_rank import ATTRIBUTE
from tfface.utils.files import atomic_write

if TYPE_CHECKING:
    import keras


def write_weights(network: "keras.Model", path: Path) -> None:
    """Writes a trained network's weights compactly.

    Args:
        network: as it was trained.
        path: ends in `.weights.h5`.
    """
    buffer = io.BytesIO()
    # Through memory: HDF5 crashes the process when the disk is full.
    with h5py.File(buffer, "w") as file:
        for layer in network.layers:
            if layer.weights:
                variables = file.create_group(f"layers/{layer.name}/vars")
                variables.attrs["name"] = layer.name
                for index, weight in enumerate(layer.weights):
                    variables.create_dataset(str(index), data=_compact(np.asarray(weight)))
        if few := getattr(network, "low_rank", None):
            file.attrs[ATTRIBUTE] = json.dumps(few)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def _compact(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16) if values.ndim > 1 else values


def preset_record(preset: Preset) -> dict[str, Any]:
    """What `preset.json` holds."""
    record = {"format": 1, **{field.name: getattr(preset, field.name) for field in dataclasses.fields(preset)}}
    record["identities_seen"] = sorted(preset.identities_seen)
    record["other_thresholds"] = [list(row) for row in preset.other_thresholds]
    # Where the file lies is known from where the record lies.
    del record["sources"]
    return record
