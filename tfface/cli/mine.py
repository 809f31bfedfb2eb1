"""`python cli.py mine --model facenet --dataset lfw --protocol view2`: the pairs that a model gets wrong."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfface.cli import _options

if TYPE_CHECKING:
    from tfface.data.dataset import FaceDataset
    from tfface.evaluation.mining import Mined
    from tfface.preprocessing.images import Recipe


@click.command(cls=_options.Command)
@_options.model
@_options.dataset_name("five_faces")
@click.option(
    "--protocol", default="all-pairs", show_default=True, metavar="NAME", help="all-pairs; of LFW view1 and view2."
)
@_options.recipe_name
@_options.flip
@click.option("--threshold", type=_options.Distance(), help="In the preset's metric, instead of the preset's.")
@click.option(
    "--calibrated", is_flag=True, help="Judge each pair at a threshold chosen on other people or folds, as evaluate."
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    metavar="N",
    help="List so many pairs of each kind, and people.",
)
@click.option("--strict", is_flag=True, help="Stop if a photograph fails, instead of counting it.")
@_options.manual_dir
@_options.seed
@_options.offline
@_options.cluster
@_options.out
def command(
    model_name: str,
    dataset_name: str,
    protocol: str,
    recipe_name: str | None,
    flip: bool,
    threshold: float | None,
    calibrated: bool,
    top: int,
    strict: bool,
    manual_dir: Path | None,
    seed: int,
    offline: bool,
    cluster: str | None,
    out: Path | None,
) -> None:
    """Ranks the pairs that a face embedder gets wrong, and the people on them.

    False positives are impostor pairs at or below the threshold, the closest first; false
    negatives genuine pairs above it, the farthest first. The counts are of all pairs.
    """
    if calibrated and threshold is not None:
        raise click.UsageError("--threshold and --calibrated exclude each other: give one of them.")
    from tfface.data.catalogue import load_dataset
    from tfface.evaluation.embeddings import embed_dataset, report_failures
    from tfface.evaluation.mining import mine
    from tfface.evaluation.scoring import check_protocol
    from tfface.models._embedder import load_embedder
    from tfface.preprocessing.images import recipe
    from tfface.utils.result import Clock, run_record

    clock, executor = Clock(), _options.executor(cluster)
    embedder = load_embedder(model_name, offline=offline)
    dataset = load_dataset(dataset_name, manual_dir=manual_dir, offline=offline)
    chosen = recipe(recipe_name or dataset.own_recipe or embedder.preset.recipe)
    check_protocol(dataset, protocol)
    embeddings = embed_dataset(dataset, embedder, chosen, flip=flip, executor=executor)
    report_failures(embeddings.failed, len(dataset), strict=strict)
    mined = mine(
        dataset,
        embeddings,
        embedder.preset,
        protocol=protocol,
        threshold=threshold,
        calibrated=calibrated,
        top=top,
        seed=seed,
        executor=executor,
    )
    metrics = {**run_record("mine", embedder, chosen.name, dataset, seed, clock), "flip": flip, **mined.metrics}
    _show(metrics)
    if out:
        _write(out, metrics, mined, dataset, chosen, embedder.preset.input_size)


def _show(metrics: dict[str, Any]) -> None:
    from tfface.cli._output import print_table
    from tfface.report.evaluation_tables import interval, percent, title

    kinds = ("false_positives", "false_negatives")
    print_table(
        ["wrong pairs", "count", "of pairs", "rate", "95% interval"],
        [
            [
                kind.replace("_", " "),
                f"{metrics[kind]['count']:,}",
                f"{metrics[kind]['pairs']:,}",
                percent(metrics[kind]["rate"], 3),
                interval(metrics[kind]["ci95"], 3),
            ]
            for kind in kinds
        ],
        title=f"{title(metrics)}; {metrics['metric']} threshold {metrics['threshold']:.4f} "
        f"({metrics['threshold_source']})",
    )
    shown = metrics["people"][:10]
    if not shown:
        click.echo("no pair is wrong at this threshold: there is nobody to list")
    else:
        print_table(
            ["person", "photographs", *(kind.replace("_", " ") for kind in kinds)],
            [[person["person"], f"{person['images']:,}", *(f"{person[kind]:,}" for kind in kinds)] for person in shown],
            title="The people with the most errors (a false positive counts for both of its people)",
        )
    for remark in metrics["remarks"]:
        click.echo(f"Note: {remark}")


def _write(
    out: Path, metrics: dict[str, Any], mined: "Mined", dataset: "FaceDataset", recipe: "Recipe", size: int
) -> None:
    from tfface.evaluation.mining import KINDS, PersonErrors, WrongPair
    from tfface.report.gallery import SHOWN, draw_gallery
    from tfface.utils.files import write_csv, write_json

    written = []
    for kind in KINDS:
        name = f"{kind}s"
        pairs, count = mined.of_kind(kind), metrics[name]["count"]
        title = f"{name.replace('_', ' ')} of {metrics['preset']} on {metrics['dataset']} ({metrics['protocol']}): "
        title += f"the worst {min(len(pairs), SHOWN)} of {count:,}" if count else "none"
        draw_gallery(out / f"{name}.png", title, pairs, dataset, recipe, size)
        written.append(f"{name}.png")
    write_csv(out / "wrong_pairs.csv", WrongPair._fields, mined.wrong)
    write_csv(out / "people.csv", PersonErrors._fields, mined.people)
    write_json(out / "metrics.json", metrics)
    click.echo(f"wrote {', '.join([*written, 'wrong_pairs.csv', 'people.csv', 'metrics.json'])} in {out}")
