"""`python cli.py export --model facenet --quantize int8 --out DIR`: a preset as files that run elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfface.cli import _options

if TYPE_CHECKING:
    from tfface.artifacts.artifact import Artifact
    from tfface.artifacts.attacking import Attacks
    from tfface.artifacts.calibration import Calibration
    from tfface.artifacts.making import Order
    from tfface.data.dataset import FaceDataset
    from tfface.models._embedder import Embedder
    from tfface.preprocessing.images import Recipe


@click.command(cls=_options.Command)
@_options.model
@_options.defenses
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["savedmodel", "tflite"]),
    default=("savedmodel", "tflite"),
    show_default=True,
    help="What to make; repeats.",
)
@click.option(
    "--quantize",
    "quantizations",
    multiple=True,
    type=click.Choice(["none", "float16", "dynamic", "int8"]),
    default=("none",),
    show_default=True,
    help="Of TFLite; repeats. A SavedModel is not quantised.",
)
@click.option(
    "--recipe",
    "recipe_name",
    metavar="NAME",
    help="How the artifact crops photographs without a face box: whole, center-N; center-140 if absent and the "
    "preset's recipe looks for faces.",
)
@click.option(
    "--calibration",
    "calibration_name",
    metavar="NAME",
    help="Data set that int8 is calibrated on; LFW if it is at hand, else five_faces.",
)
@click.option(
    "--calibration-images", type=click.IntRange(min=1), default=200, show_default=True, help="So many at most."
)
@click.option("--evaluate", "evaluates", is_flag=True, help="Judge a data set through every artifact.")
@click.option("--dataset", "dataset_name", default="lfw", show_default=True, metavar="NAME", help="For --evaluate.")
@click.option(
    "--protocol", metavar="NAME", help="For --evaluate.  [default: view2 of LFW, all-pairs of other data sets]"
)
@click.option(
    "--attack",
    "attack_names",
    multiple=True,
    type=click.Choice(["fgsm", "pgd", "square"]),
    help="For --evaluate: attack pairs too; repeats. fgsm and pgd are made on the Keras model and tried on each "
    "artifact, square is made on each by its answers alone.",
)
@click.option(
    "--attack-pairs", type=click.IntRange(min=1), default=50, show_default=True, help="Genuine ones, and impostor ones."
)
@click.option(
    "--epsilon",
    type=_options.Epsilon(),
    default=0.01,
    show_default=True,
    help="Of attacks: the largest change of a value in [0, 1]; the least of the paper's.",
)
@click.option(
    "--square-queries", type=click.IntRange(min=1), default=100, show_default=True, help="Of square, for an image."
)
@_options.manual_dir
@_options.seed
@_options.offline
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="A folder for each artifact goes there, and metrics.json.",
)
@click.pass_context
def command(context: click.Context, **options: Any) -> None:
    """Writes a preset as SavedModel or TFLite, preprocessing inside.

    Beside each artifact: a JSON record with its hash, golden.json with inputs and what it answers
    to them, and a model card. What is there already is kept. A SavedModel lies in a versioned
    folder as TensorFlow Serving wants it, with warm-up requests.
    """
    from tfface.artifacts.making import make, orders
    from tfface.artifacts.saved_model import fixed_recipe
    from tfface.defenses._stack import apply
    from tfface.errors import UserError
    from tfface.evaluation.scoring import check_protocol
    from tfface.models._embedder import load_embedder
    from tfface.utils.result import Clock

    clock = Clock()
    if options["attack_names"] and not options["evaluates"]:
        raise UserError("--attack goes with --evaluate, which finds the thresholds that attacks are judged at")
    embedder = apply(load_embedder(options["model_name"], offline=options["offline"]), options["defense_texts"])
    cut = fixed_recipe(options["recipe_name"], embedder.preset)
    calibration = _calibration(options) if "int8" in options["quantizations"] else None
    todo = orders(embedder, cut, options["formats"], options["quantizations"], calibration)
    dataset = None
    if options["evaluates"]:
        dataset = _load(options["dataset_name"], options)
        options["protocol"] = options["protocol"] or ("view2" if dataset.name.startswith("lfw") else "all-pairs")
        check_protocol(dataset, options["protocol"])
        if options["attack_names"]:
            _attacks(options).drawn(dataset, options["protocol"])  # refuses what has no pairs before all is made
    artifacts = [make(order, options["out"]) for order in todo]
    _report(todo[0], artifacts, dataset, options, clock)


def _load(name: str, options: dict[str, Any]) -> "FaceDataset":
    from tfface.data.catalogue import load_dataset

    return load_dataset(name, manual_dir=options["manual_dir"], offline=options["offline"])


def _calibration(options: dict[str, Any]) -> "Calibration":
    import os

    from tfface.artifacts.calibration import calibration_of
    from tfface.data.catalogue import describe_dataset

    name = options["calibration_name"]
    if name is None:
        at_hand = options["manual_dir"] or os.environ.get("TFFACE_LFW") or describe_dataset("lfw").facts["prepared"]
        name = "lfw" if at_hand else "five_faces"
    return calibration_of(_load(name, options), images=options["calibration_images"], seed=options["seed"])


def _report(
    order: "Order",
    artifacts: "list[Artifact]",
    dataset: "FaceDataset | None",
    options: dict[str, Any],
    clock: Any,
) -> None:
    """Measures, judges, prints and writes what was made."""
    from tfface.artifacts import card
    from tfface.artifacts.judging import entry, golden_pair, judge
    from tfface.artifacts.measure import milliseconds, peak_megabytes
    from tfface.report.export_tables import print_artifacts, print_attacks
    from tfface.utils.files import write_json
    from tfface.utils.result import run_record

    out, embedder, cut = options["out"], order.embedder, order.cut
    readers = {artifact.sha256: artifact.embedder(as_bytes=True) for artifact in artifacts}
    times = milliseconds({"keras": embedder, **readers})
    keras: dict[str, Any] = {"ms": times["keras"], "evaluate": None}
    if dataset:
        own, keras["evaluate"] = judge(embedder, dataset, cut, protocol=options["protocol"], seed=options["seed"])
    entries = []
    for artifact in artifacts:
        reader, judged = readers[artifact.sha256], None
        found, expected = golden_pair(artifact, embedder)
        if dataset:
            through, judged = judge(reader, dataset, cut, protocol=options["protocol"], seed=options["seed"])
            found, expected = through.vectors[through.ok], own.vectors[own.ok]
        entries.append(
            entry(
                artifact,
                out,
                ms=times[artifact.sha256],
                peak_megabytes=peak_megabytes(artifact.path),
                found=found,
                keras=expected,
                evaluation=judged,
                keras_evaluation=keras["evaluate"],
            )
        )
        card.write(artifact, artifact.path.parent / "README.md", entries[-1])
    if dataset and options["attack_names"]:
        _attack(embedder, [readers[artifact.sha256] for artifact in artifacts], cut, dataset, keras, entries, options)
    record = run_record("export", embedder, cut.name, dataset, options["seed"], clock)
    metrics = {**record, "keras": keras, "artifacts": entries}
    print_artifacts(metrics)
    if "attacks" in keras:
        print_attacks(metrics)
    write_json(out / "metrics.json", metrics)
    click.echo(f"wrote {', '.join(entry['path'] for entry in entries)} and metrics.json in {out}")


def _attacks(options: dict[str, Any]) -> "Attacks":
    from tfface.artifacts.attacking import Attacks

    names = tuple(dict.fromkeys(options["attack_names"]))
    return Attacks(
        names,
        pairs=options["attack_pairs"],
        epsilon=options["epsilon"],
        queries=options["square_queries"],
        seed=options["seed"],
    )


def _attack(
    embedder: "Embedder",
    readers: "list[Embedder]",
    cut: "Recipe",
    dataset: "FaceDataset",
    keras: dict[str, Any],
    artifacts: list[dict[str, Any]],
    options: dict[str, Any],
) -> None:
    """Adds `attacks` to the entries of the Keras model and of each artifact."""
    from tfface.artifacts.attacking import attack_artifact, attack_keras, entries, threshold_of

    asked = _attacks(options)
    pairs = asked.drawn(dataset, options["protocol"])
    limit = threshold_of(keras["evaluate"])
    made = attack_keras(asked, dataset, pairs, embedder, cut, limit)
    keras["attacks"] = entries(made, limit, keras=True)
    for artifact, reader in zip(artifacts, readers, strict=True):
        limit = threshold_of(artifact["evaluate"])
        found = attack_artifact(asked, made, pairs, reader, limit)
        artifact["attacks"] = entries(found, limit, keras=False)
