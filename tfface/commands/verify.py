"""`python cli.py verify A.jpg B.jpg`: are these two photographs of one person?"""

from pathlib import Path

import click

from tfface.commands import base


@click.command()
@click.argument("first", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("second", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@base.model
@base.recipe
@base.flip
@click.option("--threshold", type=base.Distance(), help="Distances up to it match; the preset's if absent.")
@base.offline
@base.out
def command(
    first: Path,
    second: Path,
    model_name: str,
    recipe_name: str | None,
    flip: bool,
    threshold: float | None,
    offline: bool,
    out: Path | None,
) -> None:
    """Tells whether two photographs show one person: distance, threshold, verdict."""
    from tfface.console import print_table
    from tfface.files import write_json
    from tfface.models.base import load_by_name
    from tfface.report.faces import draw_pair
    from tfface.report.records import Clock, head
    from tfface.verification import verify

    clock = Clock()
    embedder = load_by_name(model_name, offline=offline)
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
        record = head("verify", embedder, verdict.recipe, None, 0, clock)
        write_json(out / "metrics.json", {**record, "flip": flip, **verdict.record()})
        click.echo(f"wrote {out / 'verify.png'} and {out / 'metrics.json'}")
