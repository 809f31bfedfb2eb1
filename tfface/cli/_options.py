"""Options that several commands share."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfface.utils import registry

if TYPE_CHECKING:
    from tfface.distributed.executor import Executor

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Distance(click.FloatRange):
    """A number from zero; `nan` and `inf` are none."""

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is no distance.", param, ctx)
        return number


class Epsilon(click.FloatRange):
    """A number from 0 to 1; `nan` is none."""

    def __init__(self) -> None:
        super().__init__(min=0, max=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is no budget: give a number from 0 to 1.", param, ctx)
        return number


model = click.option(
    "--model",
    "model_name",
    default="facenet",
    show_default=True,
    metavar="NAME",
    help="An architecture, a preset (resnet50/vggface2), or deepface:<Name>.",
)
models = click.option(
    "--model",
    "model_names",
    multiple=True,
    default=("facenet",),
    show_default=True,
    metavar="NAME",
    help="An architecture, a preset (resnet50/vggface2), or deepface:<Name>; repeats.",
)


def dataset(default: str) -> Decorator:
    """`--dataset`, one of them, with a command's own default."""
    return click.option(
        "--dataset",
        "dataset_name",
        default=default,
        show_default=True,
        metavar="NAME",
        help="A data set, or a folder with one subfolder per person.",
    )


_PAPERS_EPSILONS = (0.01, 0.015, 0.02)


def _each_once(ctx: click.Context, param: click.Parameter, values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(dict.fromkeys(values))


epsilons = click.option(
    "--epsilon",
    "epsilons",
    multiple=True,
    type=Epsilon(),
    default=_PAPERS_EPSILONS,
    callback=_each_once,
    help="Budget of the attacks on the scale of [0, 1]: the largest change (linf) or the root mean square (l2); "
    f"repeats.  [default: the paper's {', '.join(map(str, _PAPERS_EPSILONS))}]",
)
defenses = click.option(
    "--defense",
    "defense_texts",
    multiple=True,
    metavar="NAME[:k=v,...]",
    help=f"Put before the model: {', '.join(name.replace('_', '-') for name in registry.names('defenses'))} (their "
    "options: python cli.py defenses); repeats, the first sees the image first.",
)
recipe = click.option(
    "--recipe",
    "recipe_name",
    metavar="NAME",
    help="Crop recipe: whole, center-140, mtcnn-v1-margin0.20 ...; the preset's if absent.",
)
cluster = click.option(
    "--cluster",
    metavar="ADDRESS",
    help="Work on a Ray cluster: auto, ray://HOST:PORT, or local:N for N nodes on this machine (docs/scaling.md).",
)
offline = click.option("--offline", is_flag=True, help="Never touch a network.")
flip = click.option("--flip", is_flag=True, help="Add the mirrored photograph's embedding.")
out = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write metrics.json and pictures there.",
)
seed = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything that is drawn at random."
)
manual_dir = click.option(
    "--manual-dir",
    type=click.Path(exists=True, path_type=Path),
    metavar="DIR",
    help="Folder of data set archives at hand (or TFFACE_LFW).",
)
artifact = click.option(
    "--artifact",
    "artifact_path",
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE.tflite",
    help="Answer through an exported artifact instead of --model, without TensorFlow.",
)
boxes = click.option(
    "--boxes",
    "boxes_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.csv",
    help="For --artifact: lines image,x,y,width,height, the faces in pixels.",
)


def given(name: str) -> bool:
    """Whether an option of the command at work was given, and did not come from its default."""
    return click.get_current_context().get_parameter_source(name) is not click.core.ParameterSource.DEFAULT


def executor(address: str | None) -> "Executor":
    """Who works for `--cluster`, until the command ends; this process where it is not given.

    Raises:
        UserError: nobody answers there, or a node is not fit for work.
    """
    from tfface.distributed.ray import workers_at

    return click.get_current_context().with_resource(workers_at(address))
