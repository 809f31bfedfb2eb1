"""The model card beside an artifact."""

from pathlib import Path
from typing import Any

from tfface.artifacts.artifact import Artifact
from tfface.utils.files import atomic_write

_PRECISION = {
    "none": "float32",
    "float16": "float16 weights",
    "dynamic": "int8 weights, float32 activations (dynamic range)",
    "int8": "int8 weights and activations",
}


def write(artifact: Artifact, path: Path, judged: dict[str, Any] | None = None) -> None:
    """Writes `README.md`.

    Args:
        artifact: of what.
        path: the file.
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
        "threshold": f"{preset.metric} distance up to {preset.threshold:g} matches ({preset.threshold_source})",
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
    lines = ["## Use", ""]
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
            "- `embed_jpeg_boxes`: `file` and `box` (y0, x0, y1, x1 in fractions of the upright photograph's sides),",
            f"  grown by {artifact.record['signatures']['embed_jpeg_boxes']['box']['margin']:g} of its sides in total;",
            "- `verify`: `first`, `second` as in `serving_default` -> `distance`, `same` (`assets/labels.txt`).",
            "",
            "EXIF orientation is applied. Of a PNG file, damage outside of its pixels goes unnoticed.",
        ]
        check = artifact.path.parent.name
    lines += ["", f"Check a copy against `golden.json`: `python cli.py golden {check}`."]
    return "\n".join(lines)


def _accuracy(artifact: Artifact, judged: dict[str, Any] | None) -> str:
    if judged is None or judged["evaluate"] is None:
        return "## Accuracy\n\nNot evaluated: `python cli.py export ... --evaluate`."
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
