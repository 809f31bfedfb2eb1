"""A preset's artifacts beside its Keras model: size, speed, cold start, and that they answer the same.

    PYTHONPATH=. python benchmarks/export.py [--model facenet/msceleb] [--out DIR] [--view2] [--beside MODEL]

- one image at a time through the Keras model and every artifact, by turns in one process; with --beside also
  through another model's float32 TFLite file;
- `verify` of two photographs in a fresh process, through the Keras model and through the dynamic-range
  artifact, by turns, with the same recipe;
- the SavedModel's `embed_jpeg` against `embed_dataset` on the same files;
- with --view2: LFW's View 2 through the Keras model and every TFLite artifact.

--out keeps the artifacts, and takes those that are there. The last line is one JSON object with the ratios.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tfface.artifacts.artifact import Artifact, SavedModelEmbedder, fixed_recipe
from tfface.artifacts.export import judge
from tfface.artifacts.making import QUANTIZATIONS, calibration_of, make, orders
from tfface.artifacts.measure import milliseconds, peak_megabytes
from tfface.data.catalogue import load_dataset
from tfface.data.dataset import FaceDataset
from tfface.errors import UserError
from tfface.evaluation.embeddings import embed_dataset
from tfface.models._embedder import Embedder, load_embedder
from tfface.preprocessing.images import Recipe

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="facenet/msceleb")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=30, help="of single images")
    parser.add_argument("--starts", type=int, default=3, help="of fresh processes")
    parser.add_argument("--images", type=int, default=64, help="files for embed_jpeg")
    parser.add_argument("--view2", action="store_true", help="judge LFW through every artifact")
    parser.add_argument("--beside", help="a model whose float32 TFLite file is timed too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(options, options.out or Path(folder))))


def measure(options: argparse.Namespace, out: Path) -> dict[str, Any]:
    embedder = load_embedder(options.model, offline=True)
    cut = fixed_recipe(None, embedder.preset)
    photographs = _photographs()
    todo = orders(embedder, cut, ("savedmodel", "tflite"), QUANTIZATIONS, calibration_of(photographs))
    served, *files = (make(order, out) for order in todo)
    artifacts = {artifact.quantization: artifact for artifact in files}
    readers = {name: artifact.embedder(as_bytes=True) for name, artifact in artifacts.items()}
    timed = {"keras": embedder, "savedmodel": served.embedder(), **readers}
    if options.beside:
        other = load_embedder(options.beside, offline=True)
        (order,) = orders(other, fixed_recipe(None, other.preset), ("tflite",), ("none",), None)
        timed["beside"] = make(order, out).embedder(as_bytes=True)
    ms = milliseconds(timed, rounds=options.rounds)
    for name, value in ms.items():
        artifact = artifacts.get(name, served if name == "savedmodel" else None)
        facts = f"{artifact.bytes:12,d} bytes, {peak_megabytes(artifact.path):5.0f} MB" if artifact else ""
        print(f"{name:10s} {value:7.2f} ms {facts}")
    result: dict[str, Any] = {
        "int8_bytes_to_float32": round(artifacts["int8"].bytes / artifacts["none"].bytes, 3),
        "float32_ms_to_int8": round(ms["none"] / ms["int8"], 2),
        "keras_ms_to_int8": round(ms["keras"] / ms["int8"], 2),
        "int8_bytes": artifacts["int8"].bytes,
        "embed_jpeg_largest_difference": _difference(served, embedder, cut, photographs, options.images),
        "cold_verify_to_keras": _cold_starts(artifacts["dynamic"], options.model, cut, photographs, options.starts),
    }
    if options.beside:
        result["beside_ms_to_int8"] = round(ms["beside"] / ms["int8"], 1)
    if options.view2:
        result["view2_points_lost"] = _points_lost(embedder, readers, cut)
    return result


def _photographs() -> FaceDataset:
    try:
        return load_dataset("lfw", offline=True)
    except UserError:
        return load_dataset("five_faces", offline=True)


def _difference(served: Artifact, embedder: Embedder, cut: Recipe, photographs: FaceDataset, count: int) -> float:
    """The largest of any value between `embed_jpeg` and `embed_dataset`."""
    some = photographs.take(np.arange(min(count, len(photographs))), "benchmark")
    expected = embed_dataset(some, embedder, cut)
    reader = served.embedder()
    assert isinstance(reader, SavedModelEmbedder)
    answer = reader.call("embed_jpeg", file=[some.read(key) for key in some.keys])
    assert answer["valid"].astype(bool).tolist() == expected.ok.tolist()
    return float(np.abs(answer["embedding"] - expected.vectors).max())


def _cold_starts(artifact: Artifact, model: str, cut: Recipe, photographs: FaceDataset, starts: int) -> float:
    """The time of `verify` in a fresh process through an artifact, in that through the Keras model."""
    with tempfile.TemporaryDirectory() as folder:
        pair = [str(Path(folder, f"{index}.jpg")) for index in range(2)]
        for path, key in zip(pair, photographs.keys, strict=False):
            Path(path).write_bytes(photographs.read(key))
        ways = {
            "artifact": ["--artifact", str(artifact.path)],
            "keras": ["--model", model, "--recipe", cut.name, "--offline"],
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(starts + 1):
            for name, arguments in ways.items():
                begin = time.perf_counter()
                command = [sys.executable, str(ROOT / "cli.py"), "verify", *pair, *arguments]
                subprocess.run(command, check=True, capture_output=True)
                times[name].append(time.perf_counter() - begin)
    # The first of each finds its files on the disk, not in memory.
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    print(f"verify, cold: {medians['artifact']:.2f} s through the artifact, {medians['keras']:.2f} s through Keras")
    return round(medians["artifact"] / medians["keras"], 3)


def _points_lost(embedder: Embedder, readers: dict[str, Embedder], cut: Recipe) -> dict[str, float]:
    """Percentage points of View 2's calibrated accuracy that each artifact has less than the Keras model."""
    dataset = load_dataset("lfw", offline=True)
    found = {
        name: 100 * judge(reader, dataset, cut, protocol="view2")[1]["calibrated"]["accuracy"]
        for name, reader in {"keras": embedder, **readers}.items()
    }
    for name, accuracy in found.items():
        print(f"View 2 {name:10s} {accuracy:.2f}%")
    return {name: round(found["keras"] - accuracy, 3) for name, accuracy in found.items() if name != "keras"}


if __name__ == "__main__":
    main()
