"""Options that several commands share."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

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


EPSILONS = (0.01, 0.015, 0.02)
"""The paper's budgets."""

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
recipe = click.option(
    "--recipe",
    "recipe_name",
    metavar="NAME",
    help="Crop recipe: whole, center-140, mtcnn-v1-margin0.20 ...; the preset's if absent.",
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
