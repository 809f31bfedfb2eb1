"""`tfface export --model facenet --quantize int8 --out DIR`: a preset as files that run elsewhere."""

from pathlib import Path
from typing import Any

import click

from tfface.cli import _command
from tfface.cli._command import finish


@click.command(cls=_command.Command)
@_command.embedder
@_command.defense
@click.option(
    "--format",
    multiple=True,
    type=click.Choice(["savedmodel", "tflite"]),
    default=("savedmodel", "tflite"),
    show_default=True,
    help="Format; repeats.",
)
@click.option(
    "--quantize",
    multiple=True,
    type=click.Choice(["none", "float16", "dynamic", "int8"]),
    default=("none",),
    show_default=True,
    help="Quantization of TFLite; repeats. A SavedModel is not quantized.",
)
@click.option(
    "--recipe",
    metavar="NAME",
    help="Crop recipe of the artifact for photographs without a face box: whole, center-N; center-140 if absent and "
    "the preset's recipe looks for faces.",
)
@click.option(
    "--calibration",
    metavar="NAME",
    help="Data set that int8 is calibrated on; LFW if it is at hand, else five_faces.",
)
@click.option(
    "--calibration-images",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Most photographs to calibrate on.",
)
@click.option("--evaluate", is_flag=True, help="Evaluate a data set through every artifact.")
@click.option("--dataset", default="lfw", show_default=True, metavar="NAME", help="Data set, for --evaluate.")
@click.option(
    "--protocol", metavar="NAME", help="For --evaluate.  [default: view2 of LFW, all-pairs of other data sets]"
)
@click.option(
    "--attack",
    multiple=True,
    type=click.Choice(["fgsm", "pgd", "square"]),
    help="For --evaluate: attack pairs too; repeats. fgsm and pgd are made on the Keras model and tried on each "
    "artifact, square is made on each by its answers alone.",
)
@click.option(
    "--attack-pairs",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Genuine pairs to attack, and as many impostor pairs.",
)
@click.option(
    "--epsilon",
    type=_command.Epsilon(),
    default=0.01,
    show_default=True,
    help="Budget of the attacks: the largest change of a value in [0, 1].",
)
@click.option(
    "--square-queries", type=click.IntRange(min=1), default=100, show_default=True, help="Queries of square, an image."
)
@_command.manual_dir
@_command.seed
@_command.offline
@click.option(
    "--out",
    required=True,
    type=_command.FilePath(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Output folder: a folder for each artifact, and metrics.json.",
)
def command(out: Path, **parameters: Any) -> None:
    """Export a preset as SavedModel or TFLite, preprocessing inside.

    Beside each artifact: a JSON record with its hash, golden.json with inputs and its answers to
    them, and a model card. An artifact that is there already is not made again. A SavedModel lies in
    a versioned folder as TensorFlow Serving wants it, with warm-up requests.
    """
    from tfface.artifacts.export import export

    finish(export(out=out, **parameters), out)
