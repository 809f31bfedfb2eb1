"""Tables of exported artifacts, from the objects that `metrics.json` holds."""

from typing import Any

from tfface.report.evaluation_tables import percent
from tfface.utils.public import Table

Metrics = dict[str, Any]


def artifacts_table(metrics: Metrics) -> Table:
    """Return the Keras model and its artifacts, one line each."""
    rows = [_row("Keras model", "float32", metrics["keras"])]
    for entry in metrics["artifacts"]:
        precision = "float32" if entry["quantization"] == "none" else entry["quantization"]
        rows.append(_row(entry["path"], precision, entry))
    return Table(
        [
            "artifact",
            "weights",
            "bytes",
            "ms",
            "peak MB",
            "cosine to Keras: mean",
            "least",
            "accuracy",
            "threshold",
            "shift",
            "TAR at FAR 0.1%",
        ],
        rows,
        title=_title(metrics),
    )


def attacks_table(metrics: Metrics) -> Table:
    """Return error rates under attack, of the Keras model and of each artifact at its own threshold."""
    models = [metrics["keras"], *metrics["artifacts"]]
    first = metrics["keras"]["attacks"]
    rows = [
        [
            f"{entry['attack']}, {'made on each' if entry['attack'] == 'square' else 'made on Keras'}",
            entry["goal"],
            *(_error(model["attacks"][place]) for model in models),
        ]
        for place, entry in enumerate(first)
    ]
    names = ["Keras model", *(entry["path"].split("/")[0] for entry in metrics["artifacts"])]
    return Table(
        ["attack", "goal", *names],
        rows,
        title=f"Errors under attack: {first[0]['norm']} epsilon {first[0]['results'][0]['epsilon']:g}, 8-bit images, "
        f"{first[0]['subjects']} pairs that the model and, of what is made on it, the Keras model get right",
    )


def _error(entry: Metrics) -> str:
    (result,) = entry["results"]
    return f"{percent(result['error_rate'], 1)} of {result['attacked']}"


def _title(metrics: Metrics) -> str:
    head = f"{metrics['preset']} ({metrics['weights_sha256'][:8]}), {metrics['recipe']}"
    judged = metrics["keras"]["evaluate"]
    if judged is None:
        return f"{head}; cosines on drawn golden inputs, not evaluated"
    return f"{head}; {judged['dataset']}: {judged['images']:,} images, {judged['protocol']}"


def _row(name: str, precision: str, entry: Metrics) -> list[str]:
    judged = entry["evaluate"] or {}
    calibrated = judged.get("calibrated") or {}
    tar = judged.get("tar_at_far", {}).get("0.001")
    return [
        name,
        precision,
        _formatted(entry.get("bytes"), ",d"),
        _formatted(entry["ms"], ".1f"),
        _formatted(entry.get("peak_megabytes"), ".0f"),
        _formatted(entry.get("embedding_cosine_mean"), ".5f"),
        _formatted(entry.get("embedding_cosine_min"), ".5f"),
        percent(calibrated.get("accuracy")),
        _formatted(calibrated.get("threshold"), ".4f"),
        _formatted(entry.get("threshold_shift"), "+.4f"),
        percent(tar["value"] if tar else None),
    ]


def _formatted(value: float | None, pattern: str) -> str:
    return "-" if value is None else format(value, pattern)
