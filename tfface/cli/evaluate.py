"""`python cli.py evaluate --model facenet`: how well a face embedder tells people apart."""

import itertools
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfface.augmentation import CORRUPTIONS, describe
from tfface.cli import _options

if TYPE_CHECKING:
    from tfface.data.dataset import FaceDataset
    from tfface.evaluation.evaluate import Evaluation

logger = logging.getLogger(__name__)


@click.command()
@_options.models
@click.option(
    "--dataset",
    "dataset_names",
    multiple=True,
    default=("five_faces",),
    show_default=True,
    metavar="NAME",
    help="A data set, or a folder with one subfolder per person; repeats.",
)
@click.option(
    "--protocol", default="all-pairs", show_default=True, metavar="NAME", help="all-pairs; of LFW view1 and view2."
)
@click.option(
    "--pairs",
    "pairs_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Judge the pairs of this file (LFW's format, or a CSV a,b,same[,fold]) instead of a protocol's.",
)
@click.option(
    "--recipe",
    "recipe_names",
    multiple=True,
    metavar="NAME",
    help="Crop recipe: whole, center-140, mtcnn-v1-margin0.20 ...; if absent the preset's, or whole where a data set "
    "on disk holds crops; repeats.",
)
@_options.flip
@_options.defenses
@click.option(
    "--corrupt",
    multiple=True,
    metavar="NAME:SEVERITY",
    help="Measure under one change of every image's crop; repeats, then beside the clean run. "
    f"{describe(CORRUPTIONS)}.",
)
@click.option(
    "--threshold", type=_options.Distance(), help="Fixed threshold in the preset's metric, instead of the preset's."
)
@click.option(
    "--groups",
    "group_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Image or person to group: error rates by group; repeats.",
)
@click.option("--images-per-person", type=click.IntRange(min=1), help="A seeded sample of so many images a person.")
@click.option("--strict", is_flag=True, help="Stop if a photograph fails, instead of counting it.")
@_options.manual_dir
@_options.seed
@_options.offline
@_options.cluster
@_options.out
def command(
    model_names: tuple[str, ...],
    dataset_names: tuple[str, ...],
    protocol: str,
    pairs_file: Path | None,
    recipe_names: tuple[str, ...],
    flip: bool,
    defense_texts: tuple[str, ...],
    corrupt: tuple[str, ...],
    threshold: float | None,
    group_files: tuple[Path, ...],
    images_per_person: int | None,
    strict: bool,
    manual_dir: Path | None,
    seed: int,
    offline: bool,
    cluster: str | None,
    out: Path | None,
) -> None:
    """Measures how well face embedders tell people apart.

    Several models, data sets, recipes or corruptions are compared in one table. The default data set,
    five_faces, and FaceNet's weights come from a package registry.
    """
    from tfface.augmentation import corruption
    from tfface.data.catalogue import load
    from tfface.data.pairs import read_groups_file, read_pairs_file
    from tfface.defenses._stack import defended
    from tfface.evaluation.embeddings import embed_dataset, report_failures
    from tfface.evaluation.evaluate import check_protocol, evaluate
    from tfface.models._embedder import load_embedder
    from tfface.preprocessing.images import recipe
    from tfface.utils.result import Clock, run_record

    executor = _options.executor(cluster)
    recipes = {name: recipe(name) for name in recipe_names}
    corruptions = list(dict.fromkeys(corruption(text, seed) for text in corrupt))
    embedders = [defended(load_embedder(name, offline=offline), defense_texts) for name in model_names]
    runs: list[tuple[dict[str, Any], Evaluation]] = []
    for dataset in _at_hand(
        dataset_names,
        lambda name: load(name, manual_dir=manual_dir, offline=offline, images_per_person=images_per_person, seed=seed),
    ):
        pairs = read_pairs_file(pairs_file, dataset) if pairs_file else None
        if pairs is None:
            check_protocol(dataset, protocol)
        groups = read_groups_file(list(group_files), dataset) if group_files else None
        for embedder in embedders:
            own = [recipe(dataset.own_recipe or embedder.preset.recipe)]
            # Several are compared with the clean run; one is asked for as it is, and so is none.
            cases = corruptions if len(corruptions) == 1 else [None, *corruptions]
            for chosen, case in itertools.product(recipes.values() or own, cases):
                clock = Clock()
                embeddings = embed_dataset(dataset, embedder, chosen, flip=flip, corruption=case, executor=executor)
                if case is cases[0]:  # the same photographs fail under all of them
                    report_failures(embeddings.failed, len(dataset), strict=strict)
                evaluation = evaluate(
                    dataset,
                    embeddings,
                    embedder.preset,
                    protocol=protocol,
                    pairs=pairs,
                    threshold=threshold,
                    groups=groups,
                    seed=seed,
                    executor=executor,
                )
                record = run_record("evaluate", embedder, chosen.name, dataset, seed, clock)
                record |= {"flip": flip, "corruption": str(case) if case else None}
                runs.append(({**record, **evaluation.metrics}, evaluation))
    _show(runs)
    if out:
        _write(out, runs)


def _at_hand(names: tuple[str, ...], load: Any) -> "list[FaceDataset]":
    """The data sets; of several, one that cannot be had is said and passed over."""
    from tfface.errors import Unavailable, UserError

    datasets = []
    for name in names:
        try:
            datasets.append(load(name))
        except Unavailable as error:
            if len(names) == 1:
                raise
            logger.warning(f"{name} is not at hand and is left out: {error}")
    if not datasets:
        raise UserError(f"none of {', '.join(names)} is at hand: see python cli.py datasets list")
    return datasets


def _show(runs: "list[tuple[dict[str, Any], Evaluation]]") -> None:
    from tfface.report.evaluation_tables import print_comparison, print_evaluation, print_paper_table

    objects = [record for record, _ in runs]
    if len(objects) == 1:
        print_evaluation(objects[0])
        return
    print_comparison(objects)
    settings = {(record["dataset"], record["recipe"], record["corruption"]) for record in objects}
    if len(settings) == 1:
        print_paper_table(objects)


def _write(out: Path, runs: "list[tuple[dict[str, Any], Evaluation]]") -> None:
    import re

    from tfface.evaluation.evaluate import WorstPair
    from tfface.report.evaluation_plots import plot_histogram, plot_roc
    from tfface.report.evaluation_tables import title
    from tfface.utils.files import write_csv, write_json
    from tfface.utils.result import one_or_many

    naming = ("preset", "dataset", "recipe", "corruption")
    labels = [" ".join(record[name] for name in naming if record[name]) for record, _ in runs]
    plot_roc(out / "roc.png", [(label, evaluation) for label, (_, evaluation) in zip(labels, runs, strict=True)])
    written = ["roc.png"]
    for label, (record, evaluation) in zip(labels, runs, strict=True):
        suffix = "" if len(runs) == 1 else "-" + re.sub(r"[^\w.]", "-", label)
        plot_histogram(out / f"distances{suffix}.png", title(record), evaluation)
        write_csv(out / f"worst{suffix}.csv", WorstPair._fields, evaluation.worst)
        written += [f"distances{suffix}.png", f"worst{suffix}.csv"]
    write_json(out / "metrics.json", one_or_many([record for record, _ in runs]))
    click.echo(f"wrote {', '.join([*written, 'metrics.json'])} in {out}")
