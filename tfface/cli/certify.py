"""`python cli.py certify --model student/lfw-noise --sigma 0.1 --dataset lfw`: verdicts that no small change turns."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfface.cli import _options

if TYPE_CHECKING:
    from tfface.data.dataset import FaceDataset
    from tfface.data.pairs import Pairs
    from tfface.robustness.certified_pairs import Certified, Smoothed
    from tfface.robustness.thresholds import Threshold


@click.command(cls=_options.Command)
@_options.model
@_options.dataset_name("lfw")
@click.option(
    "--protocol",
    default="view2",
    show_default=True,
    metavar="NAME",
    help="Where pairs are drawn from: a list of the data set (of LFW view2, view1-test ...), or all-pairs.",
)
@click.option(
    "--pairs",
    "pairs_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw them from this file (LFW's format, or a CSV a,b,same[,fold]).",
)
@click.option(
    "--count", type=click.IntRange(min=2), default=1000, show_default=True, help="So many pairs, half of them genuine."
)
@click.option(
    "--sigma",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.1,
    show_default=True,
    help="Standard deviation of the noise, on the scale of [0, 1].",
)
@click.option(
    "--samples", type=click.IntRange(min=1), default=1000, show_default=True, help="Noisy copies counted for a pair."
)
@click.option("--guess", type=click.IntRange(min=1), default=100, show_default=True, help="Further copies to guess by.")
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.001,
    show_default=True,
    help="Probability with which a certificate may be wrong.",
)
@click.option("--threshold", type=_options.Distance(), help="A pair matches up to it, in the preset's metric.")
@click.option(
    "--fold-thresholds",
    is_flag=True,
    help="Choose each fold's threshold on noisy copies of the other folds' pairs (View 2).",
)
@click.option(
    "--radius",
    "radii",
    multiple=True,
    type=_options.Distance(),
    help="L2 radius to give the certified accuracy at; repeats.  [default: multiples of sigma]",
)
@click.option(
    "--check",
    type=click.IntRange(min=1),
    metavar="N",
    help="Attack N certified pairs inside their radius, and at 10 times it, and count what breaks.",
)
@_options.recipe_name
@_options.manual_dir
@_options.seed
@_options.offline
@_options.out
def command(**options: Any) -> None:
    """Certifies verdicts on pairs by randomized smoothing: within a radius no change of the photograph turns them.

    One photograph of a pair may be changed, the reference is fixed. The smoothed verdict is the one
    that the model gives most often under Gaussian noise; its certificate is an L2 radius. A model
    trained with that noise (distill --noise) is certified much further than another.
    """
    from tfface.data.catalogue import load_dataset
    from tfface.models._embedder import load_embedder
    from tfface.preprocessing.images import recipe
    from tfface.report.certificates import print_certificates
    from tfface.robustness.certified_checks import DRAWS, STEPS, check
    from tfface.robustness.certified_pairs import Smoothed, certify_pairs
    from tfface.robustness.certified_results import certificates_entry, default_radii, remarks
    from tfface.robustness.smoothing import Smoothing
    from tfface.utils.result import Clock, run_record

    clock = Clock()
    smoothing = Smoothing(**{name: options[name] for name in ("sigma", "samples", "guess", "alpha", "seed")})
    embedder = load_embedder(options["model_name"], offline=options["offline"])
    dataset = load_dataset(options["dataset_name"], manual_dir=options["manual_dir"], offline=options["offline"])
    chosen = recipe(options["recipe_name"] or dataset.own_recipe or embedder.preset.recipe)
    smoothed = Smoothed(dataset, embedder, chosen, smoothing)
    pairs, listed = _pairs(options, dataset)
    threshold = _threshold(options, smoothed, listed)
    certified = certify_pairs(smoothed, pairs, threshold.cosine(pairs.fold))
    radii = options["radii"] or default_radii(smoothing)
    checks = check(smoothed, certified, options["check"]) if options["check"] else []
    metrics = {
        **run_record("certify", embedder, chosen.name, dataset, smoothing.seed, clock),
        "subjects": pairs.name,
        **threshold.record(),
        **certificates_entry(certified, smoothing, radii, 3 * embedder.preset.input_size**2),
        "check": {"steps": STEPS, "draws": DRAWS, "results": [one.record() for one in checks]} if checks else None,
        "remarks": remarks(dataset, certified, embedder.preset),
    }
    metrics["seconds"] = clock.seconds
    print_certificates(metrics)
    if options["out"]:
        _write(options["out"], dataset, certified, metrics)


def _pairs(options: dict[str, Any], dataset: "FaceDataset") -> "tuple[Pairs, Pairs | None]":
    """The pairs to certify, and the whole list that they were drawn from, if there is one."""
    from tfface.data.pairs import read_pairs_file
    from tfface.robustness.certified_pairs import half_genuine
    from tfface.robustness.pairs import ALL_PAIRS

    protocol, file = options["protocol"], options["pairs_file"]
    listed = read_pairs_file(file, dataset) if file else None
    if listed is None and protocol != ALL_PAIRS:
        listed = dataset.pairs(protocol)
    return half_genuine(dataset, options["count"], protocol=protocol, listed=listed, seed=options["seed"]), listed


def _threshold(options: dict[str, Any], smoothed: "Smoothed", listed: "Pairs | None") -> "Threshold":
    from tfface.errors import UserError
    from tfface.robustness.certified_thresholds import by_fold
    from tfface.robustness.thresholds import Threshold

    preset, given = smoothed.embedder.preset, options["threshold"]
    if not options["fold_thresholds"]:
        source = f"preset: {preset.threshold_source}" if given is None else "--threshold"
        return Threshold(preset.threshold if given is None else given, preset.metric, source)
    if given is not None:
        raise UserError("--threshold and --fold-thresholds each choose the threshold: give one of them")
    if listed is None:
        raise UserError("--fold-thresholds needs pairs in folds: give --protocol view2, or --pairs with folds")
    return by_fold(smoothed, listed)


def _write(out: Path, dataset: "FaceDataset", certified: "Certified", metrics: dict[str, Any]) -> None:
    """The plot, one line a pair, and `metrics.json`."""
    from tfface.report.certificates import plot_certificates
    from tfface.robustness.certified_results import COLUMNS, rows
    from tfface.utils.files import write_csv, write_json

    smoothing = metrics["smoothing"]
    title = f"{metrics['preset']} on {metrics['subjects']} of {metrics['dataset']}, sigma {smoothing['sigma']:g}"
    plot_certificates(out / "certified.png", certified, title, metrics["largest_radius"])
    write_csv(out / "certificates.csv", COLUMNS, rows(dataset, certified))
    write_json(out / "metrics.json", metrics)
    click.echo(f"wrote certified.png, certificates.csv, metrics.json in {out}")
