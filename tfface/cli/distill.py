"""`tfface distill --teacher facenet --student student --dataset lfw`: a small network from a large one."""

from pathlib import Path
from typing import Any

import click

from tfface.cli import _command
from tfface.cli._command import finish

# Places and who does the work: no part of how a preset was made.
_NOT_MADE_BY = {"manual_dir", "offline", "out", "work", "saved_models", "growth", "grow_only", "release", "beside"}


@click.command(cls=_command.Command)
@click.option(
    "--teacher",
    default="facenet",
    show_default=True,
    metavar="NAME",
    help="Architecture or preset whose embeddings are learned.",
)
@click.option(
    "--student",
    default="student",
    show_default=True,
    metavar="NAME",
    help="Architecture to train: student (the paper's), resnet50, deepface, or any other model.",
)
@_command.dataset("lfw")
@click.option("--name", help="Name of the preset, after the architecture.  [default: DATASET-distilled]")
@_command.recipe
@click.option(
    "--input-size",
    type=click.IntRange(min=16),
    help="Side of the student's input, in pixels; the architecture's if absent.",
)
@click.option(
    "--projection/--no-projection", default=True, help="Bring the student's own features to the teacher's size."
)
@click.option("--epochs", type=click.IntRange(min=1), default=60, show_default=True, help="Epochs.")
@click.option("--batch-size", type=click.IntRange(min=2), default=128, show_default=True, help="Views in a batch.")
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    default=2e-3,
    show_default=True,
    help="Highest learning rate.",
)
@click.option(
    "--weight-decay", type=click.FloatRange(min=0), default=0.02, show_default=True, help="Weight decay of kernels."
)
@click.option(
    "--warmup", type=click.IntRange(min=0), default=2, show_default=True, help="Epochs in which the rate climbs."
)
@click.option(
    "--relation-weight",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Weight of the loss on the relations inside a batch.",
)
@click.option(
    "--contrast-weight",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Weight of the contrastive loss.",
)
@click.option(
    "--hint-weight",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Weight of the loss on the teacher's last features, which the views on disk then hold too.",
)
@click.option(
    "--patience",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Stop after so many epochs without a better validation; 0 for never.",
)
@click.option("--small-input", type=click.IntRange(min=16), help="Side of the views in the first epochs (faster).")
@click.option(
    "--small-epochs", type=click.IntRange(min=0), default=0, show_default=True, help="Number of those epochs."
)
@click.option("--views", type=click.IntRange(min=1), default=14, show_default=True, help="Views of each photograph.")
@click.option(
    "--bank-gb",
    type=click.FloatRange(min=0, min_open=True),
    default=12.0,
    show_default=True,
    help="Disk for the views; fewer views if they do not fit.",
)
@click.option(
    "--mix",
    type=click.FloatRange(0, 1),
    default=0.3,
    show_default=True,
    help="Share of views that another face is mixed into.",
)
@click.option(
    "--patch",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of those in which it replaces a part instead.",
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
    help="Random mirroring, shift, turn, scale (by up to this share), brightness and contrast per epoch.",
)
@click.option(
    "--average-epochs",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Validate and save the mean of the weights over so many epochs; 0 for those of an epoch.",
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
    help="Move the teacher's embeddings of one person so far to their mean.",
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
@click.option("--epsilon", type=_command.Epsilon(), help="Budget of those attacks.  [default: 8/255]")
@click.option("--attack-steps", type=click.IntRange(min=1), help="Gradients of each attack.  [default: 3]")
@click.option("--step-size", type=_command.Epsilon(), help="Step size of the attacks.  [default: 2.5 epsilon / steps]")
@click.option("--trades-weight", type=_command.Distance(), help="Weight of TRADES' second term.  [default: 6]")
@click.option("--climb", type=click.IntRange(min=0), help="Epochs in which epsilon climbs from 0.  [default: 5]")
@click.option(
    "--noise",
    type=click.FloatRange(0, 1, min_open=True),
    help="Standard deviation of Gaussian noise on every view in training, on the scale of [0, 1].",
)
@click.option("--bfloat16", is_flag=True, help="Train with convolutions in bfloat16, where the processor has it.")
@click.option("--teacher-bfloat16", is_flag=True, help="Let the teacher embed so.")
@click.option(
    "--held-out",
    type=click.FloatRange(0, 0.6, max_open=True),
    default=0.2,
    show_default=True,
    help="Held-out share of a split by identity; of LFW, View 2's folds 9 and 10 always are held out.",
)
@click.option("--train-images", type=click.IntRange(min=2), help="Train on a seeded draw of so many (a trial).")
@click.option(
    "--growth",
    type=click.Choice(["background", "ahead", "none"]),
    default="background",
    show_default=True,
    help="Make missing views beside the training, before it, or not at all.",
)
@click.option("--grow-only", is_flag=True, help="Make the views and end.")
@click.option("--release", is_flag=True, help="Measure the held-out people and write the preset to --saved-models.")
@click.option("--compact", is_flag=True, help="Store the preset's weights as int8, at half the size.")
@click.option("--beside", metavar="PRESET", help="Attack this preset too at release; that of --start-from if absent.")
@click.option(
    "--saved-models",
    type=_command.FilePath(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of released presets; the project's own if absent.",
)
@click.option(
    "--work",
    type=_command.FilePath(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of checkpoints; one of the cache if absent.",
)
@_command.manual_dir
@_command.seed
@_command.offline
@_command.out
@click.pass_context
def command(context: click.Context, out: Path | None, **parameters: Any) -> None:
    """Distil a teacher into a student, with a train / validation / held-out split by identity.

    Views of the photographs and the teacher's embeddings of them are stored on disk; training goes on from
    its last epoch whenever the same command is given again. It ends with the validation accuracy. With
    --release the same command then reads the held-out people, prints the paper's comparison and writes
    the preset.
    """
    from tfface.artifacts.distill import distill

    finish(distill(made_by=_command_line(context), **parameters), out)


def _command_line(context: click.Context) -> str:
    """Return the command that makes this preset, with the options that are not the default."""
    words = ["python cli.py distill"]
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        always = parameter.name in ("teacher", "student", "dataset")
        if parameter.name in _NOT_MADE_BY or (value == parameter.get_default(context) and not always) or value is None:
            continue
        if isinstance(value, bool):
            words.append(parameter.opts[0] if value else parameter.secondary_opts[0])
        else:
            words.append(f"{parameter.opts[0]} {value}")
    return " ".join([*words, "--release"])
