"""`python cli.py distill --teacher facenet --student student --dataset lfw`: a small network from a large one."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfface.commands import base

if TYPE_CHECKING:
    from tfface.training.checkpoints import Checkpoints, History
    from tfface.training.growth import Growth
    from tfface.training.job import Job
    from tfface.training.validation import Score

# Where things lie and who does the work: no part of how a preset was made.
_NOT_MADE_BY = {"manual_dir", "offline", "out", "work", "saved_models", "growth", "grow_only", "release"}
_SECONDS_BETWEEN_PICTURES = 30.0


@click.command()
@click.option(
    "--teacher",
    "teacher_name",
    default="facenet",
    show_default=True,
    metavar="NAME",
    help="Whose embeddings are learned: an architecture or a preset.",
)
@click.option(
    "--student",
    "student_name",
    default="student",
    show_default=True,
    metavar="NAME",
    help="What is trained: student (the paper's), resnet50, deepface, or any other model.",
)
@click.option(
    "--dataset",
    "dataset_name",
    default="lfw",
    show_default=True,
    metavar="NAME",
    help="A data set, or a folder with one subfolder per person.",
)
@click.option("--name", help="Of the preset, after the architecture.  [default: DATASET-distilled]")
@base.recipe
@click.option(
    "--input-size", type=click.IntRange(min=16), help="Side of the student's input; the architecture's if absent."
)
@click.option(
    "--projection/--no-projection", default=True, help="Bring the student's own features to the teacher's size."
)
@click.option("--epochs", type=click.IntRange(min=1), default=60, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=2), default=128, show_default=True)
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), default=2e-3, show_default=True)
@click.option("--weight-decay", type=click.FloatRange(min=0), default=0.02, show_default=True)
@click.option("--warmup", type=click.IntRange(min=0), default=2, show_default=True, help="Epochs of a climbing rate.")
@click.option(
    "--relation-weight",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Of the loss on the relations inside a batch.",
)
@click.option(
    "--contrast-weight", type=click.FloatRange(min=0), default=0.0, show_default=True, help="Of the contrastive loss."
)
@click.option(
    "--patience",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Stop after so many epochs without a better validation; 0 for never.",
)
@click.option("--small-input", type=click.IntRange(min=16), help="Side of the views in the first epochs (faster).")
@click.option("--small-epochs", type=click.IntRange(min=0), default=0, show_default=True, help="How many those are.")
@click.option("--views", type=click.IntRange(min=1), default=14, show_default=True, help="Views of each photograph.")
@click.option(
    "--bank-gb",
    type=click.FloatRange(min=0, min_open=True),
    default=12.0,
    show_default=True,
    help="Disk for them; fewer views if they do not fit.",
)
@click.option(
    "--mix",
    type=click.FloatRange(0, 1),
    default=0.3,
    show_default=True,
    help="Share of views in which another face shines through.",
)
@click.option("--bfloat16", is_flag=True, help="Train with convolutions in bfloat16, where the processor has it.")
@click.option("--teacher-bfloat16", is_flag=True, help="The teacher answers so.")
@click.option(
    "--held-out",
    type=click.FloatRange(0, 0.6, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of the people held out; of LFW, View 2's folds 9 and 10 always are.",
)
@click.option("--train-images", type=click.IntRange(min=2), help="Train on a seeded draw of so many (a trial).")
@click.option(
    "--growth",
    type=click.Choice(["background", "ahead", "none"]),
    default="background",
    show_default=True,
    help="Where missing views are made: beside the training, before it, or nowhere.",
)
@click.option("--grow-only", is_flag=True, help="Make the views and end.")
@click.option("--release", is_flag=True, help="Read the held-out people and write the preset to --saved-models.")
@click.option(
    "--saved-models",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where a released preset goes; the project's own folder if absent.",
)
@click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of checkpoints; one of the cache if absent.",
)
@base.manual_dir
@base.seed
@base.offline
@base.out
@click.pass_context
def command(context: click.Context, **options: Any) -> None:
    """Distils a teacher into a student, by people: some validate, some are held out.

    Views of the photographs and the teacher's answers to them are kept on disk; training goes on
    from its last epoch whenever the same command is given again. It ends with the validating
    people's accuracy. With --release the same command then reads the held-out people, prints the
    paper's comparison and writes the preset.
    """
    from tfface.console import note
    from tfface.report.records import Clock

    clock = Clock()
    job = _job(options)
    if options["grow_only"]:
        os.nice(2)  # the training goes first, but waits for views: only a little
        job.grow()
        return
    checkpoints = job.checkpoints()
    # Before any view is made: a student that cannot be built says so at once.
    job.student.network(job.settings.seed)
    with checkpoints.alone():
        validation = job.validation()
        title = f"{job.student.preset.name} from {job.teacher.preset.name}"
        with _growth(job, checkpoints, options["growth"]) as growth:
            network = job.train(
                validation, checkpoints, growth=growth, on_epoch=_drawing(checkpoints.folder / "curves.png", title)
            )
        if _backend() != "tensorflow":
            note(
                f"trained under {_backend()}; the same command without KERAS_BACKEND={_backend()} measures the student"
            )
            return
        name = job.student.preset.name
        folder = (_saved_models(options) / name) if options["release"] else checkpoints.folder / "preset"
        embedder, score = job.write_preset(folder, network, validation)
        metrics = _record(job, embedder, score, checkpoints, clock)
        if options["release"]:
            metrics.update(job.measure(embedder))
        metrics["seconds"] = clock.seconds
        _write(job, metrics, checkpoints.history, title, folder, options, _command_line(context))
    _show(metrics, released=options["release"])


def _job(options: dict[str, Any]) -> "Job":
    from tfface.data import load
    from tfface.images import recipe
    from tfface.models.base import load_by_name
    from tfface.training.bank import views_within
    from tfface.training.fitting import Settings
    from tfface.training.job import Job
    from tfface.training.maker import ViewMaker, sampled, usable
    from tfface.training.split import split_people
    from tfface.training.students import student_of
    from tfface.training.views import Augmentation

    seed = options["seed"]
    teacher = load_by_name(options["teacher_name"], offline=options["offline"])
    chosen = recipe(options["recipe_name"] or teacher.preset.recipe)
    dataset = load(options["dataset_name"], manual_dir=options["manual_dir"], offline=options["offline"])
    name = options["name"] or f"{dataset.name.removeprefix('folder:').split('/')[0]}-distilled"
    student = student_of(
        options["student_name"],
        teacher.preset,
        name=name,
        recipe=chosen.name,
        input_size=options["input_size"],
        projection=options["projection"],
    )
    split = split_people(dataset, fraction=options["held_out"], seed=seed)
    trained = usable(dataset, chosen, sampled(split.train, options["train_images"], seed))
    augmentation = Augmentation(mix=options["mix"])
    maker = ViewMaker(dataset, trained, chosen, teacher, augmentation, seed, fast=options["teacher_bfloat16"])
    bank = maker.bank()
    settings = Settings(
        views=views_within(bank, min(options["views"], options["epochs"]), options["bank_gb"]),
        batch_size=min(options["batch_size"], bank.rows),
        small_input=_small_input(options, student.preset.input_size),
        precision="bfloat16" if options["bfloat16"] else "float32",
        **{
            key: options[key]
            for key in (
                "epochs",
                "learning_rate",
                "weight_decay",
                "warmup",
                "relation_weight",
                "contrast_weight",
                "patience",
                "seed",
                "small_epochs",
            )
        },
    )
    return Job(dataset, split, chosen, teacher, student, maker, bank, settings, options["work"])


def _small_input(options: dict[str, Any], input_size: int) -> int:
    from tfface.errors import UserError

    if not options["small_epochs"]:
        return 0
    small = options["small_input"]
    if small is None or small >= input_size:
        raise UserError(f"--small-epochs needs a --small-input below the student's {input_size} pixels")
    return int(small)


def _backend() -> str:
    import keras

    return str(keras.backend.backend())


@contextlib.contextmanager
def _growth(job: "Job", checkpoints: "Checkpoints", how: str) -> "Iterator[Growth | None]":
    """What makes the views still missing, while the body runs."""
    from tfface.training.growth import Growth, wait_for

    missing = [number for number in range(job.settings.views) if not job.bank.ready(number)]
    if not missing or how == "none" or checkpoints.stopped or checkpoints.epochs >= job.settings.epochs:
        yield None
        return
    if how == "ahead" and _backend() == "tensorflow":
        job.grow()
        yield None
        return
    growth = Growth([sys.executable, *sys.orig_argv[1:], "--grow-only"])
    try:
        for number in missing if how == "ahead" else ():
            wait_for(job.bank, number, growth)
        yield growth
    finally:
        growth.stop()


def _drawing(target: Path, title: str) -> "Callable[[History], None]":
    """Draws the curves now and then: an epoch of a small student is shorter than a picture takes."""
    last = 0.0

    def draw(history: "History") -> None:
        nonlocal last
        from tfface.report.distillation import plot_curves

        if time.monotonic() - last > _SECONDS_BETWEEN_PICTURES:
            plot_curves(target, history, title)
            last = time.monotonic()

    return draw


def _saved_models(options: dict[str, Any]) -> Path:
    from tfface.models.base import SAVED_MODELS

    return options["saved_models"] or SAVED_MODELS


def _record(job: "Job", embedder: Any, score: "Score", checkpoints: "Checkpoints", clock: Any) -> dict[str, Any]:
    from tfface.report.records import head

    return {
        **head("distill", embedder, job.recipe.name, job.dataset, job.settings.seed, clock),
        "teacher": job.teacher.preset.name,
        "teacher_sha256": job.teacher.sha256,
        "student": job.student.preset.architecture,
        "parameters": embedder.model.count_params(),
        "train_images": len(job.maker.indices),
        "train_identities": len(job.split.people(job.dataset, "train")),
        "split": job.split.rule,
        "epochs": checkpoints.epochs,
        "settings": job.settings.record(),
        "augmentation": job.maker.augmentation.record(),
        "validation": {
            "accuracy": score.accuracy,
            "threshold": score.threshold,
            "epoch": checkpoints.best_epoch,
            "people": job.split.validation_rule,
        },
        "history": checkpoints.history,
    }


def _write(
    job: "Job",
    metrics: dict[str, Any],
    history: "History",
    title: str,
    folder: Path,
    options: dict[str, Any],
    made_by: str,
) -> None:
    from tfface.files import atomic_write, read_json, write_json
    from tfface.report.distillation import model_card, plot_curves

    for target in filter(None, [folder if options["release"] else None, options["out"]]):
        plot_curves(target / "curves.png", history, title)
        write_json(target / "metrics.json", metrics)
    if options["release"]:
        with atomic_write(folder / "README.md") as temporary:
            temporary.write_text(model_card(metrics, read_json(folder / "preset.json"), made_by))
        click.echo(f"wrote {metrics['preset']} to {folder}")
    if options["out"]:
        click.echo(f"wrote curves.png, metrics.json in {options['out']}")


def _show(metrics: dict[str, Any], *, released: bool) -> None:
    from tfface.console import print_table
    from tfface.report.distillation import print_comparison

    validation = metrics["validation"]
    print_table(
        ["preset", "weights", "trained on", "validation accuracy", "threshold", "best epoch"],
        [
            [
                metrics["preset"],
                f"{metrics['parameters']:,}",
                f"{metrics['train_images']:,} images of {metrics['train_identities']:,} people",
                f"{validation['accuracy']:.2%}",
                f"{validation['threshold']:.4f}",
                f"{validation['epoch'] + 1} of {metrics['epochs']}",
            ]
        ],
    )
    if released:
        print_comparison(metrics)
    else:
        click.echo("the same command with --release measures the held-out people and writes the preset")


def _command_line(context: click.Context) -> str:
    """The command that makes this preset, from the options that are not the default."""
    words = ["python cli.py distill"]
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        always = parameter.name in ("teacher_name", "student_name", "dataset_name")
        if parameter.name in _NOT_MADE_BY or (value == parameter.get_default(context) and not always) or value is None:
            continue
        if isinstance(value, bool):
            words.append(parameter.opts[0] if value else parameter.secondary_opts[0])
        else:
            words.append(f"{parameter.opts[0]} {value}")
    return " ".join([*words, "--release"])
