"""`python cli.py benchmark-robustness --model student --dataset lfw`: which defense holds, and at what cost."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfface.cli import _options

if TYPE_CHECKING:
    from tfface.models._embedder import Embedder
    from tfface.robustness.benchmark import Benchmark

_SETTINGS = {"steps": "--steps", "restarts": "--restarts", "queries": "--queries"}
_NONE = "none"


@click.command(cls=_options.Command)
@_options.models
@_options.dataset_name("lfw")
@click.option(
    "--protocol",
    default="view2",
    show_default=True,
    metavar="NAME",
    help="Of accuracy, thresholds and attacked pairs: view2 or view1 of LFW, or all-pairs.",
)
@click.option(
    "--defense",
    "stacks",
    multiple=True,
    default=("jpeg", "bit-depth", "median", "resize-pad", "noise"),
    show_default=True,
    metavar="NAME[:k=v,...][+...]",
    help="A row of the table; + joins those that stand one behind the other. The undefended model is always the "
    "first; repeats.",
)
@click.option(
    "--attack",
    "attack_names",
    multiple=True,
    default=("pgd",),
    show_default=True,
    metavar="NAME",
    help="fgsm, bim, pgd, mim, square; repeats.",
)
@click.option(
    "--goal",
    "goals",
    multiple=True,
    type=click.Choice(["dodging", "impersonation"]),
    default=("dodging", "impersonation"),
    show_default=True,
    help="Repeats.",
)
@click.option("--norm", "norms", multiple=True, metavar="NAME", help="linf or l2; the attack's own if absent; repeats.")
@click.option("--steps", type=click.IntRange(min=1), help="Of iterative attacks.  [default: the attack's own]")
@click.option("--restarts", type=click.IntRange(min=1), help="Random starts (pgd).")
@click.option("--queries", type=click.IntRange(min=1), help="Answers of the model for an image (square).")
@click.option(
    "--draws", type=click.IntRange(min=1), help="Averaged in a gradient through random defenses.  [default: 10]"
)
@click.option("--count", type=click.IntRange(min=1), default=100, show_default=True, help="Pairs attacked for a goal.")
@click.option("--surrogate", "surrogate_name", metavar="NAME", help="Another model, for attacks that transfer from it.")
@click.option(
    "--check",
    type=click.IntRange(min=0),
    default=16,
    show_default=True,
    help="Pairs of a goal that the sanity checks are made on; 0 leaves them out.",
)
@click.option(
    "--check-steps", type=click.IntRange(min=1), default=100, show_default=True, help="Of PGD in the sanity checks."
)
@click.option("--detect/--no-detect", default=True, show_default=True, help="Try detection by squeezed views.")
@click.option(
    "--epsilon",
    type=_options.Epsilon(),
    default=0.02,
    show_default=True,
    help="Epsilon of the detected attacks.",
)
@click.option(
    "--certified",
    "certified_folders",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="DIR",
    help="The --out of certify: fills the row of its model and noise; repeats.",
)
@_options.recipe_name
@_options.manual_dir
@_options.seed
@_options.offline
@_options.out
def command(**options: Any) -> None:
    """Fills one table: each defense's accuracy, and what attackers need who know more or less of it.

    For every defense: accuracy at a threshold of its own, the median of the smallest epsilon that succeeds
    for an attack that does not know it (naive), one that follows its gradient (white box) and one through
    another model (transfer), how well squeezed views tell attacked photographs, certified accuracy where it
    was measured, and the time of an image. A defense that only looks good to the naive attack, or fails a
    sanity check, is listed as broken. Cells are kept: a run that was stopped goes on.
    """
    from tfface.data.catalogue import load_dataset
    from tfface.defenses._stack import apply
    from tfface.evaluation.scoring import check_protocol
    from tfface.models._embedder import load_embedder
    from tfface.preprocessing.images import recipe
    from tfface.report.robustness_tables import print_benchmark
    from tfface.robustness.benchmark import row, verdict
    from tfface.utils.result import Clock, run_record

    clock, asked = Clock(), _benchmark(options)
    certificates = _certificates(options["certified_folders"])
    offline = options["offline"]
    models = [load_embedder(name, offline=offline) for name in options["model_names"]]
    texts = _stacks(options["stacks"])
    lines = [[apply(model, stack) for stack in texts] for model in models]
    surrogate = load_embedder(options["surrogate_name"], offline=offline) if options["surrogate_name"] else None
    dataset = load_dataset(options["dataset_name"], manual_dir=options["manual_dir"], offline=offline)
    check_protocol(dataset, options["protocol"])
    objects = []
    for model, embedders in zip(models, lines, strict=True):
        chosen = recipe(options["recipe_name"] or dataset.own_recipe or model.preset.recipe)
        rows = [row(asked, dataset, embedder, chosen, surrogate) for embedder in embedders]
        _add_speed(rows, embedders)
        for embedder, entry in zip(embedders, rows, strict=True):
            entry["certified"] = _certified(embedder, certificates)
            entry["verdict"] = verdict(entry, rows[0])
        record = run_record("benchmark-robustness", model, chosen.name, dataset, options["seed"], clock)
        objects.append({**record, **_settings(asked, surrogate), "rows": rows})
        print_benchmark(objects[-1])
    if options["out"]:
        _write(options["out"], objects)


def _stacks(texts: tuple[str, ...]) -> list[list[str]]:
    """The stack of each row; the first has none."""
    stacks = [[part for part in text.split("+") if part.strip()] for text in texts if text.strip() != _NONE]
    return [[], *(stack for place, stack in enumerate(stacks) if stack and stack not in stacks[:place])]


def _benchmark(options: dict[str, Any]) -> "Benchmark":
    from tfface.robustness.benchmark import Benchmark
    from tfface.robustness.detection import Watch
    from tfface.robustness.experiment import AttackConfig
    from tfface.robustness.grid import attack_grid

    settings = {field: options[field] for field in _SETTINGS if options[field] is not None}
    plan = AttackConfig(
        attacks=attack_grid(options["attack_names"], options["norms"], settings, options=_SETTINGS),
        goals=tuple(dict.fromkeys(options["goals"])),
        protocol=options["protocol"],
        count=options["count"],
        seed=options["seed"],
        **({"draws": options["draws"]} if options["draws"] else {}),
    )
    watch = Watch() if options["detect"] else None
    return Benchmark(plan, options["epsilon"], options["check"], options["check_steps"], watch)


def _settings(asked: "Benchmark", surrogate: "Embedder | None") -> dict[str, Any]:
    plan = asked.plan
    return {
        "protocol": plan.protocol,
        "count": plan.count,
        "draws": plan.draws,
        "checked": asked.check,
        "check_steps": asked.check_steps,
        "surrogate": surrogate.preset.name if surrogate else None,
        "surrogate_sha256": surrogate.sha256 if surrogate else None,
    }


def _add_speed(rows: list[dict[str, Any]], embedders: "list[Embedder]") -> None:
    """The milliseconds of one image, measured by turns."""
    from tfface.artifacts.measure import milliseconds

    times = milliseconds({str(place): embedder for place, embedder in enumerate(embedders)}, rounds=15)
    for place, entry in enumerate(rows):
        entry["ms"] = times[str(place)]


def _certificates(folders: tuple[Path, ...]) -> list[dict[str, Any]]:
    """The results of `certify` in some folders.

    Raises:
        UserError: one is none.
    """
    from tfface.errors import UserError
    from tfface.report.page_runs import read_runs

    found = read_runs(folders) if folders else []
    for run in found:
        if run.command != "certify":
            raise UserError(f"{run.folder} holds a result of {run.command}, not of certify: give the --out of certify")
    return [run.metrics for run in found]


def _certified(embedder: "Embedder", certificates: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The certificate of a row: of the same weights, for the noise that stands before them."""
    from tfface.defenses._stack import DefendedEmbedder

    stack = embedder.stack if isinstance(embedder, DefendedEmbedder) else ()
    sigma = [getattr(defense, "sigma", None) for defense in stack]
    for found in certificates:
        if found["weights_sha256"] == embedder.sha256 and sigma == [found["smoothing"]["sigma"]]:
            entry = next((entry for entry in found["certified"] if entry["radius"] > 0), found["certified"][0])
            return {"radius": entry["radius"], "accuracy": entry["accuracy"]}
    return None


def _write(out: Path, objects: list[dict[str, Any]]) -> None:
    from tfface.report import robustness_plots as plots
    from tfface.utils.files import write_json
    from tfface.utils.result import one_or_many

    written = []
    for metrics in objects:
        suffix = "" if len(objects) == 1 else "-" + metrics["preset"].replace("/", "-").replace(":", "-")
        drawn = {"heat_map": plots.plot_heat_map, "error_against_epsilon": plots.plot_curves}
        if any(row["detection"] for row in metrics["rows"]):
            drawn["detection"] = plots.plot_roc
        for name, plot in drawn.items():
            plot(out / f"{name}{suffix}.png", metrics)
            written.append(f"{name}{suffix}.png")
    write_json(out / "metrics.json", one_or_many(objects))
    click.echo(f"wrote {', '.join([*written, 'metrics.json'])} in {out}")
