"""Parts that the commands share: options, tables on stdout, the log on stderr, errors in terms of options."""

import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from tfface.utils import registry
from tfface.utils.public import Result, Table, UserError, user_path

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Command(click.Command):
    """A command whose errors name its options."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            raise click.ClickException(in_options(str(error))) from error


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


class Distance(click.FloatRange):
    """A finite number >= 0."""

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value}: give a finite number >= 0.", param, ctx)
        return number


class Epsilon(click.FloatRange):
    """A number from 0 to 1."""

    def __init__(self) -> None:
        super().__init__(min=0, max=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value}: give a number from 0 to 1.", param, ctx)
        return number


ATTACKS = ", ".join(registry.names("attacks"))

_MODELS = (
    "Architecture, preset (resnet50/vggface2), deepface:<Name>, or a file of your own: .keras, .h5, .tflite, .onnx or "
    "a SavedModel's folder, with what no record beside it says after a colon (PATH:scale=-1..1,colour=bgr)"
)


class FilePath(click.Path):
    """A path; `~` at its beginning is a home folder, where the shell has left it (`--out=~/x`) too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            path = user_path(value)
        except UserError as error:
            self.fail(str(error), param, ctx)
        longest = max(path.parts, key=lambda part: len(os.fsencode(part)), default="")
        if len(os.fsencode(longest)) > _LONGEST_NAME:
            self.fail(f"{longest[:20]}... is too long for the name of a file.", param, ctx)
        return super().convert(path, param, ctx)


_LONGEST_NAME = 255
embedder = click.option(
    "--model",
    "embedder",
    default="facenet",
    show_default=True,
    metavar="NAME",
    help=f"{_MODELS}.",
)
embedders = click.option(
    "--model",
    "embedder",
    multiple=True,
    default=("facenet",),
    show_default=True,
    metavar="NAME",
    help=f"{_MODELS}; repeats.",
)


def dataset(default: str) -> Decorator:
    """`--dataset`, one of them, with a command's own default."""
    return click.option(
        "--dataset",
        default=default,
        show_default=True,
        metavar="NAME",
        help="Data set, or a folder with one subfolder per person.",
    )


_PAPERS_EPSILONS = (0.01, 0.015, 0.02)


def _each_once(ctx: click.Context, param: click.Parameter, values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(dict.fromkeys(values))


far = click.option(
    "--far",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Use the model's threshold that was calibrated at this false accept rate (tfface calibrate).",
)
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
defense = click.option(
    "--defense",
    multiple=True,
    metavar="NAME[:k=v,...]",
    help="Input defense in front of the model: "
    f"{', '.join(name.replace('_', '-') for name in registry.names('defenses'))} (their options: tfface defenses); "
    "repeats, the first sees the image first.",
)
recipe = click.option(
    "--recipe",
    metavar="NAME",
    help="Crop recipe: whole, center-140, mtcnn-v1-margin0.20, align5-112 ...; the preset's if absent.",
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
    type=FilePath(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Output folder: metrics.json and pictures.",
)
seed = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed.")
manual_dir = click.option(
    "--manual-dir",
    type=FilePath(exists=True, path_type=Path),
    metavar="DIR",
    help="Folder of data set archives (or TFFACE_LFW).",
)
artifact = click.option(
    "--artifact",
    type=FilePath(exists=True, path_type=Path),
    metavar="FILE.tflite",
    help="Answer through an exported artifact instead of --model, without TensorFlow.",
)
boxes = click.option(
    "--boxes",
    type=FilePath(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.csv",
    help="For --artifact: lines image,x,y,width,height, the faces in pixels.",
)
points = click.option(
    "--points",
    type=FilePath(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.csv",
    help="For --artifact: lines image,x0,y0,...,x4,y4: eyes, nose, corners of the mouth in pixels, left first.",
)


def check_given(artifact: Path | None, **given: Path | None) -> None:
    """Refuse faces that are given where a detector runs."""
    for name, value in given.items():
        if value and not artifact:
            raise UserError(f"`{name}` goes with `artifact`: a model finds the faces itself", parameter=name)


def check_found(artifact: Path | None, **chosen: Any) -> None:
    """Refuse choices among found faces where none are looked for."""
    for name, value in chosen.items():
        if value and artifact:
            raise UserError(f"`{name}` goes with a model, which finds faces; `artifact` is given them", parameter=name)


# Names of the commands that do not call one public function yet.
recipe_name = click.option("--recipe", "recipe_name", metavar="NAME")


def dataset_name(default: str) -> Decorator:
    return click.option("--dataset", "dataset_name", default=default, show_default=True, metavar="NAME")


class _Stderr(logging.Handler):
    """Writes what the library logs as lines on stderr, so that stdout stays for results."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"tfface: {in_options(self.format(record))}", file=sys.stderr, flush=True)


def log_to_stderr() -> None:
    """Show the library's log on stderr."""
    logger = logging.getLogger("tfface")
    if not any(isinstance(handler, _Stderr) for handler in logger.handlers):
        logger.addHandler(_Stderr())
        logger.setLevel(logging.INFO)
        logger.propagate = False
    # It tells of fonts and folders of its own, which are no part of a result.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def in_options(message: str) -> str:
    """Write the options of the command at work where a message names parameters in backticks."""
    context = click.get_current_context(silent=True)
    options = {} if context is None else {param.name: _spelled(param) for param in context.command.params}
    return re.sub(r"`(\w+)`", lambda found: options.get(found[1], found[0]), message)


def _spelled(param: click.Parameter) -> str:
    return max(param.opts, key=len) if isinstance(param, click.Option) else str(param.name).upper()


def finish(result: Result, out: Path | None) -> None:
    """Print a result's tables, and write its files if a folder is given."""
    show(result.tables())
    if out:
        click.echo(f"wrote {', '.join(result.save(out))} in {out}")


def show(tables: Iterable[Table]) -> None:
    """Print tables on stdout."""
    for table in tables:
        if table.columns:
            print_table(table.columns, table.rows, title=table.title)
        for note in table.notes:
            click.echo(f"Note: {in_options(note)}")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print a table on stdout; the first column is text, the rest are aligned right."""
    from rich import table as rich_table
    from rich.console import Console

    table = rich_table.Table(title=title or None, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    # A pipe has no width: give the table all it needs instead of folding it at 80.
    width = None if sys.stdout.isatty() else 200
    # A cell is text as it stands: a file called `me[red].jpg` is not markup.
    Console(width=width, highlight=False, markup=False, emoji=False).print(table)
