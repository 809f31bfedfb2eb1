"""Files beside an artifact: golden vectors, which tell a right copy, and the model card.

Golden vectors are a few inputs and the artifact's answers when it was exported. A copy on another machine, or a port of
its reader, is right if it answers the same. The inputs are drawn here, so they may be handed on with the artifact.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tfface.artifacts.artifact import SIGNATURES, Artifact, SavedModelEmbedder, open_artifact, reader_recipe
from tfface.preprocessing.images import BOX, FIVE_POINTS, POINTS, crop_boxed, decode, encode_png, in_fractions, recipe
from tfface.utils.files import atomic_write, read_json, sha256_of, user_path, write_json
from tfface.utils.public import Result, Table, UserError
from tfface.utils.tensorflow_logs import held_stderr

FORMAT = 1
TOLERANCE = {"none": 1e-5, "float16": 1e-4, "dynamic": 1e-3, "int8": 1e-3}
"""The largest cosine distance to the golden vector that passes: other processors round otherwise."""
_EXIF_TURNED = bytes.fromhex("ffe100224578696600004d4d002a00000008000101120003000000010006000000000000")
"""A JPEG segment that says: turn a quarter to the right to see it upright."""
_FACES = {
    False: "- `embed_jpeg_boxes`: `file` and `box` (y0, x0, y1, x1 in fractions of the upright photograph's sides),\n"
    "  grown by {own.margin:g} of its sides in total;",
    True: "- `embed_jpeg_points`: `file` and `points` (x0, y0, ..., x4, y4 in fractions of the upright photograph's\n"
    "  sides: {points}), laid onto the template of `{own.name}`;",
}
_PRECISION = {
    "none": "float32",
    "float16": "float16 weights",
    "dynamic": "int8 weights, float32 activations (dynamic range)",
    "int8": "int8 weights and activations",
}


@dataclass(frozen=True)
class GoldenAnswer:
    """Answer to one golden input.

    Attributes:
        file: the input.
        distance: cosine distance of the answer to the golden vector; 0 where both refuse the input.
        passed: the distance is within the tolerance.
    """

    file: str
    distance: float
    passed: bool


@dataclass(frozen=True)
class GoldenCheck(Result):
    """Answers of a copy of an artifact to its golden inputs.

    Attributes:
        artifact: the copy.
        answers: one for each input.
    """

    artifact: Artifact
    answers: Sequence[GoldenAnswer]

    @property
    def passed(self) -> bool:
        """True where every input is answered as when the artifact was exported."""
        return not self.failed

    @property
    def failed(self) -> list[str]:
        """Inputs that are answered otherwise."""
        return [answer.file for answer in self.answers if not answer.passed]

    def to_dict(self) -> dict[str, Any]:
        origin = {"artifact": self.artifact.name, "artifact_sha256": self.artifact.sha256, "passed": self.passed}
        return {**origin, "inputs": [dataclasses.asdict(answer) for answer in self.answers]}

    def tables(self) -> list[Table]:
        words = {True: "as exported", False: "differs"}
        rows = [[answer.file, f"{answer.distance:.2e}", words[answer.passed]] for answer in self.answers]
        title = f"{self.artifact.name} ({self.artifact.sha256[:8]})"
        return [Table(["input", "cosine distance", "verdict"], rows, title=title)]


def check_golden(artifact: str | Path, *, golden: str | Path | None = None) -> GoldenCheck:
    """Check a copy of an artifact: its hash, and its answers to its golden inputs.

    A `.tflite` file is checked without TensorFlow.

    Args:
        artifact: `.tflite` file, or folder of a SavedModel.
        golden: `golden.json`; the one beside the artifact by default.

    Returns:
        Each golden input with the answer that it must have and the one that it got.

    Raises:
        UserError: it is no artifact, its bytes are not those that were exported, or its golden inputs are missing.

    Example:
        >>> import tfface
        >>> tfface.check_golden("out/facenet-msceleb-int8/facenet-msceleb-int8.tflite").passed  # doctest: +SKIP
        True
    """
    opened = open_artifact(user_path(artifact))
    return GoldenCheck(opened, check(opened, user_path(golden) if golden else opened.path.parent / "golden.json"))


def write_golden(artifact: Artifact, folder: Path) -> None:
    """Draw the inputs, embed them, and write `golden/` and `golden.json` into a folder."""
    inputs = _draw(artifact, folder)
    vectors = _ask(artifact, folder, inputs)
    for entry, vector in zip(inputs, vectors, strict=True):
        entry["embedding"] = None if vector is None else [float(value) for value in vector]
    write_json(
        folder / "golden.json",
        {
            "format": FORMAT,
            "artifact": artifact.path.name,
            "artifact_sha256": artifact.sha256,
            "input_size": artifact.preset.input_size,
            "recipe": artifact.recipe,
            "renormalise": artifact.renormalise,
            "metric": "cosine distance",
            "tolerance": TOLERANCE[artifact.quantization],
            "inputs": inputs,
        },
    )


def check(artifact: Artifact, path: Path) -> list[GoldenAnswer]:
    """Embed the golden inputs again.

    Args:
        artifact: the copy to check.
        path: a `golden.json`, its inputs beside it.

    Raises:
        UserError: there is no such file, it is another artifact's, or an input is not what it was.
    """
    if not path.exists():
        raise UserError(f"{path} is not there: copy golden.json and the folder golden with the artifact")
    record = read_json(path)
    try:
        expected, inputs, tolerance = record["artifact_sha256"], record["inputs"], record["tolerance"]
    except (KeyError, TypeError):
        raise UserError(f"{path} holds no golden vectors that this version reads: export the artifact again") from None
    if expected != artifact.sha256:
        raise UserError(f"{path} was made by another artifact than {artifact.path}: copy the two together")
    for entry in inputs:
        file = path.parent / entry["file"]
        if not file.is_file() or sha256_of(file) != entry["sha256"]:
            raise UserError(f"{file} is not the golden input that it was: copy the folder golden again")
    answers = []
    for entry, vector in zip(inputs, _ask(artifact, path.parent, inputs), strict=True):
        distance = _distance(entry["embedding"], vector)
        answers.append(GoldenAnswer(entry["file"], distance, distance <= tolerance))
    return answers


def vectors_of(path: Path) -> np.ndarray:
    """Return the golden vectors of the inputs that are crops, float32 (N, D)."""
    inputs = read_json(path)["inputs"]
    return np.array([entry["embedding"] for entry in inputs if entry["kind"] == "crop"], np.float32)


def crops_of(path: Path) -> np.ndarray:
    """Return those inputs, float32 (N, S, S, 3) in [0, 1]."""
    files = [path.parent / entry["file"] for entry in read_json(path)["inputs"] if entry["kind"] == "crop"]
    return np.stack([decode(file.read_bytes()) for file in files]).astype(np.float32) / 255


def golden_pair(artifact: Artifact, embed: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the golden vectors of drawn crops and the embeddings of the same crops: (N, D) each."""
    path = artifact.path.parent / "golden.json"
    return vectors_of(path), embed(crops_of(path))


def drawn_photograph(seed: int, height: int = 250, width: int = 250) -> np.ndarray:
    """Draw a face, uint8 RGB (height, width, 3); its colours and features by the seed."""
    random = np.random.default_rng(seed)
    skin = np.array(random.integers(120, 240), float) * np.array([1.0, 0.78, 0.62])
    pixels = cv2.resize(random.integers(30, 220, (5, 5, 3)).astype(np.uint8), (width, height))

    def oval(x: float, y: float, wide: float, high: float, colour: Sequence[float] | np.ndarray) -> None:
        centre, axes = (round(x * width), round(y * height)), (round(wide * width), round(high * height))
        cv2.ellipse(pixels, centre, axes, 0, 0, 360, [float(value) for value in colour], -1, cv2.LINE_AA)

    hair, iris = random.integers(0, 110, 3), random.integers(20, 150, 3)
    oval(0.5, 0.44, 0.24, 0.30, hair)
    oval(0.5, 0.50, 0.19, 0.26, skin)
    spread, eye, mouth = random.uniform(0.07, 0.10), random.uniform(0.43, 0.47), random.uniform(0.62, 0.66)
    for side in (-1, 1):
        oval(0.5 + side * spread, eye, 0.038, 0.020, (245, 245, 245))
        oval(0.5 + side * spread, eye, 0.017, 0.019, iris)
        oval(0.5 + side * spread, eye - 0.045, 0.045, 0.009, hair)
    oval(0.5, 0.54, 0.022, 0.045, skin * 0.85)
    oval(0.5, mouth, random.uniform(0.05, 0.08), 0.018, (170, 60, 70))
    noise = random.normal(0, 4, pixels.shape)
    return np.clip(cv2.GaussianBlur(pixels, (3, 3), 0) + noise, 0, 255).astype(np.uint8)


def jpeg_of(pixels: np.ndarray, *, lying: bool = False) -> bytes:
    """Return a JPEG file of uint8 RGB; `lying`: stored on its side, with an EXIF tag that says so."""
    stored = np.rot90(pixels) if lying else pixels
    data = cv2.imencode(".jpg", np.ascontiguousarray(stored[:, :, ::-1]))[1].tobytes()
    return data[:2] + _EXIF_TURNED + data[2:] if lying else data


def _draw(artifact: Artifact, folder: Path) -> list[dict[str, Any]]:
    """Write the input files: crops that go in as they are, and photographs that must be decoded and cropped."""
    size = artifact.preset.input_size
    upright = drawn_photograph(10, 300, 260)
    crops = [drawn_photograph(seed, size, size) for seed in range(3)]
    face = ("boxed.jpg", jpeg_of(upright), {"kind": "face", "box": [81.0, 72.0, 98.0, 156.0]})
    if recipe(artifact.preset.recipe).aligned:
        points = [108.0, 133.0, 152.0, 136.0, 130.0, 165.0, 113.0, 193.0, 147.0, 194.0]
        face = ("aligned.jpg", jpeg_of(upright), {"kind": "face", "points": points})
    crops.append(np.random.default_rng(3).integers(0, 256, crops[0].shape).astype(np.uint8))
    files: list[tuple[str, bytes, dict[str, Any]]] = [
        (f"crop{index}.png", encode_png(pixels), {"kind": "crop"}) for index, pixels in enumerate(crops)
    ]
    files += [
        ("photograph.png", encode_png(drawn_photograph(11)), {"kind": "photograph"}),
        ("lying.jpg", jpeg_of(upright, lying=True), {"kind": "photograph"}),
        face,
        ("broken.jpg", jpeg_of(upright)[:-4000], {"kind": "photograph"}),
    ]
    inputs = []
    for name, data, facts in files:
        path = folder / "golden" / name
        with atomic_write(path) as temporary:
            temporary.write_bytes(data)
        inputs.append({"file": f"golden/{name}", "sha256": sha256_of(path), **facts})
    return inputs


def _ask(artifact: Artifact, folder: Path, inputs: Sequence[dict[str, Any]]) -> list[np.ndarray | None]:
    """Return the artifact's answers; None for inputs that it refuses."""
    embedder = artifact.embedder(as_bytes=True)
    in_graph = isinstance(embedder, SavedModelEmbedder)
    ask = _of_savedmodel(embedder) if in_graph else _of_reader(artifact, embedder)
    answers = []
    for entry in inputs:
        data = (folder / entry["file"]).read_bytes()
        if entry["kind"] == "crop":
            answers.append(embedder.embed(decode(data)[None].astype(np.float32) / 255)[0])
        else:
            answers.append(ask(entry, data))
    return answers


def face_in(entry: dict[str, Any]) -> tuple[str | None, np.ndarray | None]:
    """Return the face that is given with a golden input: `box` or `points`, and its numbers in pixels."""
    given = next((name for name in (BOX, FIVE_POINTS) if name in entry), None)
    return given, None if given is None else np.array(entry[given])


def _of_reader(artifact: Artifact, embedder: Any) -> Callable[[dict[str, Any], bytes], np.ndarray | None]:
    """Decode and crop in the reader."""

    def ask(entry: dict[str, Any], data: bytes) -> np.ndarray | None:
        given, face = face_in(entry)
        try:
            chosen = reader_recipe(artifact, None, given=given)
            crop, _ = crop_boxed(data, chosen, artifact.preset.input_size, face)
        except UserError:
            return None
        return embedder.embed(crop[None])[0]

    return ask


def _of_savedmodel(embedder: Any) -> Callable[[dict[str, Any], bytes], np.ndarray | None]:
    """Decode and crop inside the graph."""

    def ask(entry: dict[str, Any], data: bytes) -> np.ndarray | None:
        with held_stderr():  # TensorFlow's decoder complains of the broken one in words of its own
            given, face = face_in(entry)
            inputs = {given: [in_fractions(face, data)]} if given and face is not None else {}
            answer = embedder.call(SIGNATURES[given], file=[data], **inputs)
        return answer["embedding"][0] if answer["valid"][0] else None

    return ask


def _distance(expected: Sequence[float] | None, found: np.ndarray | None) -> float:
    """Return the cosine distance; 0 if both refuse, infinite if one does."""
    if expected is None or found is None:
        return 0.0 if expected is None and found is None else float("inf")
    a, b = np.asarray(expected, np.float64), np.asarray(found, np.float64)
    if a.shape != b.shape:
        return float("inf")
    distance = 1 - float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12)
    return distance if np.isfinite(distance) else float("inf")


def write_card(artifact: Artifact, path: Path, judged: dict[str, Any] | None = None) -> None:
    """Write the model card.

    Args:
        artifact: the artifact.
        path: `README.md` beside it.
        judged: its entry in `metrics.json`, where it was evaluated.
    """
    parts = [_head(artifact), _use(artifact), _accuracy(artifact, judged), _limits(artifact)]
    with atomic_write(path) as temporary:
        temporary.write_text("\n\n".join(parts) + "\n")


def _head(artifact: Artifact) -> str:
    preset, record = artifact.preset, artifact.record
    rows = {
        "artifact": f"`{artifact.path.name}`, {artifact.bytes:,} bytes, sha256 `{artifact.sha256}`",
        "precision": _PRECISION[artifact.quantization],
        "preset": f"`{preset.name}`, weights sha256 `{record['weights_sha256']}`",
        "input": f"{preset.input_size} x {preset.input_size} RGB",
        **({"defense": " then ".join(record["defense"])} if "defense" in record else {}),
        "embedding": f"{preset.embedding_size} float32 values"
        + (", to be scaled to length 1 by the reader" if artifact.renormalise else ", of length 1"),
        "crop": f"`{artifact.recipe}` for photographs without a face box; the preset's own recipe is `{preset.recipe}`",
        "threshold": "{} distance up to {:g} matches ({})".format(*preset.decide()),
        "training data": preset.training_data or "not recorded",
        "licence": preset.licence or "not recorded",
    }
    if calibration := record["calibration"]:
        rows["calibrated on"] = (
            f"{calibration['photographs']} photographs of {calibration['people']} people of {calibration['dataset']}: "
            f"{calibration['rule']}"
        )
    return "\n".join([f"# {artifact.name}", "", "| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())])


def _use(artifact: Artifact) -> str:
    lines, own = ["## Use", ""], recipe(artifact.preset.recipe)
    if artifact.format == "tflite":
        lines += [
            "Signature `embed`: `image`, uint8 (1, S, S, 3), RGB bytes as they are; what the network wants done to",
            "them is inside. Output `embedding`, float32 (1, D). One image a call. Builtin operations alone.",
        ]
        if artifact.quantization == "none":
            lines.append("Signature `embed_float` takes the same image as float32 in [0, 1].")
        check = artifact.path.name
    else:
        lines += [
            "Signatures, all for batches of any size:",
            "",
            "- `serving_default`: `image`, float32 (N, S, S, 3) in [0, 1] -> `embedding`;",
            f"- `embed_jpeg`: `file`, JPEG or PNG files -> `embedding`, `valid`; cropped by `{artifact.recipe}`; a",
            "  file that cannot be read has `valid` 0 and zeros, and does its neighbours no harm;",
            _FACES[own.aligned].format(own=own, points=POINTS),
            "- `verify`: `first`, `second` as in `serving_default` -> `distance`, `same` (`assets/labels.txt`).",
            "",
            "EXIF orientation is applied. Of a PNG file, damage outside of its pixels goes unnoticed.",
        ]
        check = artifact.path.parent.name
    lines += ["", f"Check a copy against `golden.json`: `tfface golden {check}`."]
    return "\n".join(lines)


def _accuracy(artifact: Artifact, judged: dict[str, Any] | None) -> str:
    if judged is None or judged["evaluate"] is None:
        return "## Accuracy\n\nNot evaluated."
    found = judged["evaluate"]
    calibrated = found["calibrated"] or {}
    lines = [
        "## Accuracy",
        "",
        f"Through this artifact, {found['dataset']} ({found['protocol']}, {found['recipe']}), "
        f"{found['images'] - found['failed_images']:,} of {found['images']:,} photographs:",
        "",
        f"- at the threshold above: {100 * found['fixed']['accuracy']:.2f}%;",
    ]
    if calibrated:
        lines.append(f"- calibrated: {100 * calibrated['accuracy']:.2f}% at {calibrated['threshold']:.4f};")
    lines += [
        f"- TAR at FAR {100 * float(far):g}%: {100 * entry['value']:.2f}%;"
        for far, entry in found["tar_at_far"].items()
    ]
    lines.append(
        f"- cosine to the Keras model's embeddings: {judged['embedding_cosine_mean']:.5f} in the mean, "
        f"{judged['embedding_cosine_min']:.5f} at least."
    )
    return "\n".join(lines)


def _limits(artifact: Artifact) -> str:
    return (
        "## Limits\n\n"
        "Error rates differ between groups of people and with light, age and pose; measure them on people like those "
        "that it will meet. The threshold holds for the crop that it was measured with. It tells nothing of whether a "
        "photograph shows a living face."
    )
