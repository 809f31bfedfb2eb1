"""A reader of a TFLite artifact on one page, checked against its golden vectors.

    python examples/golden_check.py DIR/facenet-msceleb-int8/facenet-msceleb-int8.tflite

Needs numpy, ai-edge-litert, and OpenCV to read PNG files; nothing of tfface.
"""

import hashlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter


class FaceEmbedder:
    """Embeds face crops of the artifact's input size."""

    def __init__(self, path: Path) -> None:
        record = json.loads(path.with_name(path.name + ".json").read_text())
        if hashlib.sha256(path.read_bytes()).hexdigest() != record["sha256"]:
            raise SystemExit(f"{path} is not what was exported")
        self.renormalise = record["output"]["renormalise"]
        self.run = Interpreter(str(path)).get_signature_runner("embed")

    def embed(self, crop: np.ndarray) -> np.ndarray:
        """A crop, uint8 RGB (S, S, 3), to a vector of length 1, float32 (D,)."""
        vector = self.run(image=crop[None])["embedding"][0]
        return vector / np.linalg.norm(vector) if self.renormalise else vector


def cosine_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Of two vectors of length 1."""
    return 1 - float(np.dot(first, second))


def main(path: Path) -> None:
    """Compares the answers to the golden crops with the golden vectors."""
    golden = json.loads((path.parent / "golden.json").read_text())
    embedder = FaceEmbedder(path)
    for entry in golden["inputs"]:
        if entry["kind"] != "crop":
            continue
        crop = cv2.imread(str(path.parent / entry["file"]))[:, :, ::-1]
        distance = cosine_distance(embedder.embed(crop), np.array(entry["embedding"], np.float32))
        print(f"{entry['file']}: cosine distance {distance:.1e}")
        if not distance <= golden["tolerance"]:
            raise SystemExit(f"{entry['file']} is answered otherwise than when the artifact was exported")
    print("all as exported")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
