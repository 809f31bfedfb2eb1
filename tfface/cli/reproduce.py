"""`python cli.py reproduce`: the whole paper on LFW; `--dataset five_faces` in minutes."""

import contextlib
import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfface.cli import _options

if TYPE_CHECKING:
    from tfface.data.dataset import FaceDataset
    from tfface.paper.pipeline import Choices
    from tfface.paper.stages import Stage, Stages
    from tfface.paper.weights import Models

logger = logging.getLogger(__name__)


@click.command(cls=_options.Command)
@_options.model
@_options.dataset_name("lfw")
@_options.epsilons
@click.option("--distill", is_flag=True, help="Train the student (hours) instead of taking the one at hand.")
@click.option("--only", multiple=True, metavar="STAGE", help="This stage and those that it reads; repeats.")
@_options.manual_dir
@_options.seed
@_options.offline
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="A folder for each stage goes there, and report.html.  [default: reproduction/DATASET]",
)
def command(**options: Any) -> None:
    """Does the whole paper: evaluate, mine, attack, augment, retrain, attack again, export, report.

    Each stage is a command of its own, whose line is in the report. A stage that is done is not done
    again until something that it depends on changes: an option, the weights, the data set, a package.
    The same command goes on where it was stopped. Models whose weights cannot be had are left out.
    """
    from tfface.data.catalogue import load_dataset
    from tfface.paper import ledger
    from tfface.paper.pipeline import stages_of
    from tfface.paper.stages import Stages
    from tfface.utils.result import versions

    name = options["dataset_name"]
    dataset = load_dataset(name, manual_dir=options["manual_dir"], offline=options["offline"])
    out = options["out"] or _default_out(name, dataset)
    with ledger.claim(out, dataset.name) as top, _models_kept():
        choices = _choices(options, dataset, _models(options, out, top))
        stages = Stages(out, stages_of(choices), versions())
        rows = [_row(stages, stage, choices) for stage in stages.needed_for(options["only"])]
    _show(rows, stages, choices)


def _default_out(name: str, dataset: "FaceDataset") -> Path:
    """A folder is called by its last name; `lfw/funneled` is none."""
    if dataset.name.startswith("folder:"):
        return Path("reproduction", Path(name).expanduser().resolve().name)
    return Path("reproduction", name.replace("/", "-"))


def _models(options: dict[str, Any], out: Path, top: dict[str, Any]) -> "Models":
    """The models at hand, from `reproduction.json` as long as no file of weights has changed."""
    from tfface.paper import ledger, weights

    wanted = weights.names(options["model_name"])
    trace = weights.trace(wanted, offline=options["offline"])
    if top.get("weights_trace") == trace:
        return weights.Models.of(top["models"])
    from tfface.models._embedder import load_embedder

    needed = [options["model_name"], *([] if options["distill"] else wanted[-1:])]
    models = weights.look(wanted, lambda name: load_embedder(name, offline=options["offline"]), needed=needed)
    # Anew, since files may have been fetched.
    trace = weights.trace(wanted, offline=options["offline"])
    ledger.save(out, {**top, "weights_trace": trace, "models": models.record()})
    return models


def _choices(options: dict[str, Any], dataset: "FaceDataset", models: "Models") -> "Choices":
    from tfface.paper.pipeline import Choices, facts_of

    for reason in models.absent.values():
        logger.warning(f"left out: {reason}")
    settings = ["--offline"] if options["offline"] else []
    if options["manual_dir"]:
        settings += ["--manual-dir", str(options["manual_dir"])]
    return Choices(
        main=options["model_name"],
        models=models,
        dataset=options["dataset_name"],
        epsilons=options["epsilons"],
        seed=options["seed"],
        distill=options["distill"],
        settings=settings,
        **facts_of(dataset),
    )


def _row(stages: "Stages", stage: "Stage", choices: "Choices") -> list[str]:
    """Runs a stage unless it is done; its row of the table."""
    from tfface.paper import ledger

    folder = stages.folder(stage.name)
    done = ledger.finished(stages.out, folder, stages.inputs[stage.name])
    if done is None:
        logger.warning(f"{folder.name}: {stages.spoken(stage)}")
        done = _run(stages, stage, choices)
        return [folder.name, f"{done['seconds']:.1f}", "run"]
    return [folder.name, f"{done['seconds']:.1f}", "done before"]


def _run(stages: "Stages", stage: "Stage", choices: "Choices") -> dict[str, Any]:
    """Runs a stage's command in this process.

    Raises:
        UserError: as the command's, with the stage's name before it.
    """
    from tfface.errors import UserError
    from tfface.paper import ledger
    from tfface.utils import registry
    from tfface.utils.result import Clock

    folder, inputs, clock = stages.folder(stage.name), stages.inputs[stage.name], Clock()
    absent = choices.models.absent if stage.command == "evaluate" else {}
    about = {"stage": stage.name, "command_line": stages.spoken(stage), "started": clock.started, "absent": absent}
    ledger.begin(folder, inputs, about)
    command: click.Command = registry.load("cli", stage.command).command
    try:
        command.main(stages.command_line(stage), prog_name=f"cli.py {stage.command}", standalone_mode=False)
    except UserError as error:
        raise UserError(f"{folder.name}: {error}") from error
    also = [stages.located(place) for place in stage.writes]
    return ledger.finish(stages.out, folder, inputs, about, seconds=clock.seconds, also=also)


@contextlib.contextmanager
def _models_kept() -> Iterator[None]:
    """While it lasts each model is loaded once, however many commands ask for it.

    TensorFlow counts what all of them trace and warns of it; each traces what a command of its own would.
    """
    import logging

    from tfface.models import _embedder as models

    load, logger = models.load_embedder, logging.getLogger("tensorflow")
    level = logger.level
    models.load_embedder = functools.cache(load)
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        models.load_embedder = load
        logger.setLevel(level)


def _show(rows: list[list[str]], stages: "Stages", choices: "Choices") -> None:
    from tfface.cli._output import print_table
    from tfface.paper.pipeline import PAGE

    click.echo(f"{choices.model.name} on {choices.version}")
    print_table(["stage", "seconds", "now"], rows)
    page = stages.located(PAGE)
    if page.exists():
        click.echo(f"{page}: {page.stat().st_size / 1e6:.1f} MB")
