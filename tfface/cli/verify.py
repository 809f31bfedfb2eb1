"""`python cli.py verify A.jpg B.jpg`: are these two photographs of one person?"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tfface.cli import _options

if TYPE_CHECKING:
    from tfface.artifacts.artifact import Artifact
    from tfface.evaluation.verify import Verification
    from tfface.models._embedder import Embedder


@click.command(cls=_options.Command)
@click.argument("first", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("second", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_options.model
@_options.artifact_path
@_options.boxes_file
@_options.recipe_name
@_options.flip
@click.option("--threshold", type=_options.Distance(), help="Distances up to it match; the preset's if absent.")
@_options.offline
@_options.out
def command(
    first: Path,
    second: Path,
    model_name: str,
    artifact_path: Path | None,
    boxes_file: Path | None,
    recipe_name: str | None,
    flip: bool,
    threshold: float | None,
    offline: bool,
    out: Path | None,
) -> None:
    """Tells whether two photographs show one person: distance, threshold, verdict."""
    from tfface.artifacts.photographs import open_reader
    from tfface.cli._output import print_table
    from tfface.errors import UserError
    from tfface.evaluation.verify import verify
    from tfface.models._embedder import load_embedder
    from tfface.report.faces import draw_pair
    from tfface.utils.files import write_json
    from tfface.utils.result import Clock, run_record

    clock = Clock()
    if boxes_file and not artifact_path:
        raise UserError("--boxes goes with --artifact: a model finds the faces itself")
    artifact = open_reader(artifact_path) if artifact_path else None
    embedder = artifact.embedder() if artifact else load_embedder(model_name, offline=offline)
    if artifact:
        verdict = _verify_through(artifact, embedder, first, second, recipe_name, boxes_file, threshold, flip)
    else:
        verdict = verify(embedder, first, second, recipe_name=recipe_name, threshold=threshold, flip=flip)
    word = "same person" if verdict.same else "different people"
    print_table(
        ["photographs", "model", "recipe", "metric", "distance", "threshold", "verdict"],
        [
            [
                f"{first.name}, {second.name}",
                embedder.preset.name,
                verdict.recipe,
                verdict.metric,
                f"{verdict.distance:.4f}",
                f"{verdict.threshold:.4f}",
                word,
            ]
        ],
    )
    if out:
        draw_pair(
            out / "verify.png",
            [first, second],
            verdict.boxes,
            f"{embedder.preset.name}: {verdict.metric} distance {verdict.distance:.4f}, "
            f"threshold {verdict.threshold:.4f}: {word}",
        )
        record = run_record("verify", embedder, verdict.recipe, None, 0, clock)
        through = artifact.origin() if artifact else {}
        write_json(out / "metrics.json", {**record, **through, "flip": flip, **verdict.record()})
        click.echo(f"wrote {out / 'verify.png'} and {out / 'metrics.json'}")


def _verify_through(
    artifact: "Artifact",
    embedder: "Embedder",
    first: Path,
    second: Path,
    recipe_name: str | None,
    boxes_file: Path | None,
    threshold: float | None,
    flip: bool,
) -> "Verification":
    """The same without TensorFlow."""
    from tfface.artifacts.photographs import read_boxes, reader_recipe, verify

    boxes = read_boxes(boxes_file) if boxes_file else None
    chosen = reader_recipe(artifact, recipe_name, boxed=boxes is not None)
    return verify(embedder, first, second, chosen=chosen, boxes=boxes, threshold=threshold, flip=flip)
