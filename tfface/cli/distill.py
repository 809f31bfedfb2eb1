"""`python cli.py distill --teacher facenet --student student --dataset lfw`: a small network from a large one."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfface.cli import _options

if TYPE_CHECKING:
    from tfface.models._embedder import Embedder
    from tfface.training.checkpoints import Checkpoints, History
    from tfface.training.growth import Growth
    from tfface.training.job import DistillationJob

logger = logging.getLogger(__name__)

# Where things lie and who does the work: no part of how a preset was made.
_NOT_MADE_BY = {"manual_dir", "offline", "out", "work", "saved_models", "growth", "grow_only", "release", "beside"}
_SECONDS_BETWEEN_PICTURES = 30.0


@click.command(cls=_options.Command)
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
@_options.dataset_name("lfw")
@click.option("--name", help="Of the preset, after the architecture.  [default: DATASET-distilled]")
@_options.recipe_name
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
    "--hint-weight",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Of the loss on the teacher's last features, which the bank then holds too.",
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
@click.option(
    "--patch",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of those in which it takes the place of a part instead.",
)
@click.option(
    "--warp",
    type=click.FloatRange(0, 0.1),
    default=0.0,
    show_default=True,
    help="Displace parts of faces by up to about this share of the side: faces of other shapes.",
)
@click.option(
    "--jitter",
    type=click.FloatRange(0, 0.3),
    default=0.0,
    show_default=True,
    help="Mirror, move, turn, scale (by up to this share) and light each view anew in every epoch, for the student.",
)
@click.option(
    "--average-epochs",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Judge and keep the mean of the weights over so many epochs; 0 for those of an epoch.",
)
@click.option(
    "--rate-floor",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of the learning rate that it falls to.",
)
@click.option(
    "--center-weight",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Draw the teacher's answers to photographs of one person so far to their mean.",
)
@click.option(
    "--start-from",
    metavar="PRESET",
    help="Begin with the weights of a preset of the same network that has seen nobody of the test.",
)
@click.option(
    "--adversarial",
    type=click.Choice(["pgd-at", "trades"]),
    help="Attack the views in training: PGD-AT learns from attacked ones alone, TRADES from both.",
)
@click.option("--epsilon", type=_options.Epsilon(), help="Budget of those attacks.  [default: 8/255]")
@click.option("--attack-steps", type=click.IntRange(min=1), help="Gradients of each attack.  [default: 3]")
@click.option("--step-size", type=_options.Epsilon(), help="Of the attack.  [default: 2.5 epsilon / steps]")
@click.option("--trades-weight", "weight", type=_options.Distance(), help="Of TRADES' second term.  [default: 6]")
@click.option("--climb", type=click.IntRange(min=0), help="Epochs in which epsilon climbs from 0.  [default: 5]")
@click.option(
    "--noise",
    type=click.FloatRange(0, 1, min_open=True),
    help="Standard deviation of Gaussian noise on every view in training, on the scale of [0, 1].",
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
@click.option("--beside", metavar="PRESET", help="Attack this preset too at release; that of --start-from if absent.")
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
@_options.manual_dir
@_options.seed
@_options.offline
@_options.out
@click.pass_context
def command(context: click.Context, **options: Any) -> None:
    """Distils a teacher into a student, by people: some validate, some are held out.

    Views of the photographs and the teacher's answers to them are kept on disk; training goes on
    from its last epoch whenever the same command is given again. It ends with the validating
    people's accuracy. With --release the same command then reads the held-out people, prints the
    paper's comparison and writes the preset.
    """
    from tfface.artifacts.making import lite_speed
    from tfface.models._embedder import load_embedder
    from tfface.report.distillation_files import distillation_record, made_by, show_distillation, write_distillation
    from tfface.utils.result import Clock

    clock = Clock()
    job = _job(options)
    # Looked up before the training: a name that is none is said at once.
    beside = load_embedder(options["beside"], offline=options["offline"]) if options["beside"] else job.start
    if options["grow_only"]:
        os.nice(2)  # the training goes first, but waits for views: only a little
        job.grow()
        return
    checkpoints = job.checkpoints()
    # Before any view is made: a student that cannot be built says so at once.
    job.network()
    with checkpoints.alone():
        validation = job.validation()
        title = f"{job.student.preset.name} from {job.teacher.preset.name}"
        with _growth(job, checkpoints, options["growth"]) as growth:
            network = job.train(
                validation, checkpoints, growth=growth, on_epoch=_drawing(checkpoints.folder / "curves.png", title)
            )
        if _backend() != "tensorflow":
            logger.warning(
                f"trained under {_backend()}; the same command without KERAS_BACKEND={_backend()} measures the student"
            )
            return
        name = job.student.preset.name
        folder = (_saved_models(options) / name) if options["release"] else checkpoints.folder / "preset"
        embedder, score = job.write_preset(folder, network, validation)
        metrics = distillation_record(job, embedder, score, checkpoints, clock)
        metrics["made_by"] = made_by(job.start, _command_line(context))
        if options["release"]:
            metrics.update(job.measure(embedder))
            metrics["tflite"] = lite_speed(embedder, job.teacher)
            metrics.update(_withstands(job, embedder, beside))
        metrics["seconds"] = clock.seconds
        write_distillation(
            metrics,
            checkpoints.history,
            title,
            released=folder if options["release"] else None,
            out=options["out"],
        )
    show_distillation(metrics, released=options["release"])


def _job(options: dict[str, Any]) -> "DistillationJob":
    from tfface.data.catalogue import load_dataset
    from tfface.models._embedder import load_embedder
    from tfface.preprocessing.images import recipe
    from tfface.training.bank import views_within
    from tfface.training.fitting import Settings, small_input_of
    from tfface.training.hardening import hardening_of
    from tfface.training.job import DistillationJob
    from tfface.training.maker import ViewMaker, sampled, usable
    from tfface.training.split import split_people
    from tfface.training.students import student_of
    from tfface.training.views import Augmentation

    seed = options["seed"]
    teacher = load_embedder(options["teacher_name"], offline=options["offline"])
    chosen = recipe(options["recipe_name"] or teacher.preset.recipe)
    dataset = load_dataset(options["dataset_name"], manual_dir=options["manual_dir"], offline=options["offline"])
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
    augmentation = Augmentation(mix=options["mix"], patch=options["patch"], warp=options["warp"])
    hints = options["hint_weight"] > 0
    maker = ViewMaker(
        dataset, trained, chosen, teacher, augmentation, seed, fast=options["teacher_bfloat16"], hints=hints
    )
    bank = maker.bank()
    settings = Settings(
        views=views_within(bank, min(options["views"], options["epochs"]), options["bank_gb"]),
        batch_size=min(options["batch_size"], bank.rows),
        small_input=small_input_of(options, student.preset.input_size),
        hardening=hardening_of(options),
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
                "hint_weight",
                "patience",
                "seed",
                "small_epochs",
                "jitter",
                "average_epochs",
                "rate_floor",
                "center_weight",
            )
        },
    )
    start = options["start_from"] and load_embedder(options["start_from"], offline=options["offline"])
    return DistillationJob(
        dataset, split, chosen, teacher, student, maker, bank, settings, options["work"], start or None
    )


def _withstands(job: "DistillationJob", embedder: "Embedder", beside: "Embedder | None") -> dict[str, Any]:
    """What a hardened student, and another beside it, withstand on held-out people; nothing of an ordinary one."""
    from tfface.robustness.heldout import attack_heldout, certify_heldout
    from tfface.robustness.trial import Context

    hardening, seed = job.settings.hardening, job.settings.seed
    if hardening is None:
        return {}
    if not hardening.adversarial:
        found = certify_heldout(Context(job.dataset, embedder, job.recipe, seed=seed), job.split, sigma=hardening.sigma)
        return {"certified": found}
    models = [embedder, beside] if beside else [embedder]
    return {
        "withstands": [attack_heldout(Context(job.dataset, one, job.recipe, seed=seed), job.split) for one in models]
    }


def _backend() -> str:
    import keras

    return str(keras.backend.backend())


@contextlib.contextmanager
def _growth(job: "DistillationJob", checkpoints: "Checkpoints", how: str) -> "Iterator[Growth | None]":
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
    from tfface.models._embedder import SAVED_MODELS

    return options["saved_models"] or SAVED_MODELS


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
