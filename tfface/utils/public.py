"""Parts that the public functions share: options as plain keywords in, results with tables and files out."""

import abc
import dataclasses
import datetime
import difflib
import functools
import html
import importlib.metadata
import inspect
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tfface import __version__
from tfface.errors import UserError
from tfface.utils.files import atomic_write, file_names, write_json
from tfface.utils.files import user_path as user_path

__all__ = [
    "Clock",
    "Named",
    "Recorded",
    "Result",
    "Table",
    "UserError",
    "as_list",
    "configured",
    "median_milliseconds",
    "one_or_many",
    "run_record",
    "save_figure",
    "versions",
]


logger = logging.getLogger(__name__)


def _plain_figure(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def draw(*args: Any, **options: Any) -> Any:
        return plain(method(*args, **options))

    return draw


@dataclass(frozen=True)
class Table:
    """One table; the first column is text, the rest are numbers.

    Attributes:
        columns: headings.
        rows: cells, one row a line.
        title: above it; empty for none.
        notes: lines below it.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    notes: Sequence[str] = ()

    def to_html(self) -> str:
        """Render as an HTML fragment."""
        head = "".join(f"<th>{html.escape(column)}</th>" for column in self.columns)
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in self.rows)
        caption = f"<caption>{html.escape(self.title)}</caption>" if self.title else ""
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"


class Result(abc.ABC):
    """Base of what a public function returns."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Have the figures that it draws show names as they are."""
        super().__init_subclass__(**options)
        for name in ("plot", "plot_distances"):
            if name in vars(cls):
                setattr(cls, name, _plain_figure(vars(cls)[name]))

    @abc.abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the content of `metrics.json`, JSON-able."""

    def tables(self) -> list[Table]:
        """Return the tables that the command line prints."""
        return []

    def save_files(self, folder: Path) -> list[str]:
        """Write pictures and the like into a folder.

        Returns:
            Names of the files written.
        """
        return []

    def save(self, folder: str | Path) -> list[str]:
        """Write `metrics.json` into a folder, and pictures beside it.

        Returns:
            Names of the files written.
        """
        folder = user_path(folder)
        written = self.save_files(folder)
        write_json(folder / "metrics.json", self.to_dict())
        return [*written, "metrics.json"]

    def _repr_html_(self) -> str:
        return "".join(table.to_html() for table in self.tables())


def save_figure(figure: Any, target: Path) -> None:
    """Write a matplotlib figure as a PNG file, and close it."""
    import matplotlib.pyplot as plt

    with atomic_write(target) as temporary:
        plain(figure).savefig(temporary, dpi=120, metadata={"Software": "tfface"})
    plt.close(figure)


_FONT = "DejaVu Sans"  # comes with matplotlib
_OTHER_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR"),
    *("Source Han Sans", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "IPAexGothic", "IPAGothic"),
    *("NanumGothic", "Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Microsoft YaHei", "MS Gothic"),
    *("Malgun Gothic", "Arial Unicode MS", "Noto Sans", "Noto Sans Devanagari", "Noto Sans Thai", "Unifont"),
)
"""Fonts of scripts that it lacks, as systems have them."""
_BOX = "\u25a1"


def plain(figure: Any) -> Any:
    """Return a figure that shows names as they are: `$` is no formula, letters come from a font that has them."""
    from matplotlib import ticker
    from matplotlib.text import Text

    numbers = set()  # on a logarithmic axis they are powers of ten
    for axis in (axis for axes in figure.get_axes() for axis in (axes.xaxis, axes.yaxis)):
        formatter = axis.get_major_formatter()
        if isinstance(formatter, ticker.ScalarFormatter | ticker.LogFormatter):
            numbers |= {label for minor in (False, True) for label in axis.get_ticklabels(minor=minor)}
        else:
            axis.set_major_formatter(lambda value, place, own=formatter: drawable(own(value, place))[0])
    for text in figure.findobj(Text):
        if text not in numbers:
            shown, fonts = drawable(text.get_text())
            text.set_parse_math(False)
            text.set_text(shown)
            text.set_fontfamily(fonts)
    return figure


def drawable(text: str) -> tuple[str, list[str]]:
    """Return a text as the fonts of this machine can draw it, and their families; a letter that none has is a box."""
    fonts, missing = [_FONT], set(text) - _letters(_FONT) - set("\n")
    for name in _OTHER_FONTS if missing else ():
        if found := missing & _letters(name):
            fonts.append(name)
            missing -= found
    if missing and not _note_missing.cache_info().currsize:  # once
        _note_missing("".join(sorted(missing)[:10]))
    return "".join(_BOX if letter in missing else letter for letter in text), fonts


@functools.cache
def font_file(name: str) -> str | None:
    """Return the file of a font; None where it is not installed."""
    from matplotlib import font_manager

    known = [entry.fname for entry in font_manager.fontManager.ttflist if entry.name == name]
    return font_manager.findfont(name) if known else None


@functools.cache
def _letters(name: str) -> frozenset[str]:
    from matplotlib.ft2font import FT2Font

    file = font_file(name)
    return frozenset(map(chr, FT2Font(file).get_charmap())) if file else frozenset()


@functools.cache
def _note_missing(letters: str) -> None:
    logger.warning(f"no font of this machine has {letters}: pictures show boxes; a font as Noto Sans CJK has them")


def suffixes(labels: Sequence[str]) -> list[str]:
    """Return the ends of the file names of several results in one folder; of one alone it is empty.

    >>> suffixes(["facenet/msceleb"]), suffixes(["facenet/msceleb", "facenet:msceleb"])
    ([''], ['-facenet-msceleb', '-facenet-msceleb-2'])
    """
    return [f"-{name}" for name in file_names(labels)] if len(labels) > 1 else [""] * len(labels)


@dataclass
class Clock:
    """Start and duration of a run."""

    started: str = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))
    _begin: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self._begin, 2)


def median_milliseconds(
    functions: Sequence[Callable[[Any], object]], inputs: Callable[[int], Any], *, rounds: int = 30
) -> list[float]:
    """Return the median time of each function in milliseconds.

    They are called by turns, so that other work of the machine falls on all alike.

    Args:
        functions: of one argument.
        inputs: makes the argument of each round.
        rounds: timed calls; two more before them compile.
    """
    times: list[list[float]] = [[] for _ in functions]
    for turn in range(rounds + 2):
        given = inputs(turn)
        for place, function in enumerate(functions):
            begin = time.perf_counter()
            function(given)
            if turn >= 2:
                times[place].append(1000 * (time.perf_counter() - begin))
    return [statistics.median(values) for values in times]


class Recorded(Protocol):
    """Anything that says what a result names of it."""

    def record(self) -> dict[str, Any]: ...


class Named(Protocol):
    """A data set, as results name it."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...


def versions() -> dict[str, str]:
    """Return the versions that a result depends on, without importing anything heavy."""
    packages = ("tensorflow", "keras", "numpy")
    return {"tfface": __version__, **{name: importlib.metadata.version(name) for name in packages}}


def run_record(
    command: str, embedder: "Recorded", recipe: str, dataset: "Named | None", seed: int, clock: Clock
) -> dict[str, Any]:
    """Return what every result names, in the order of `metrics.json`.

    Args:
        command: name of the command.
        embedder: the model.
        recipe: name of the crop recipe.
        dataset: the data set; None without one.
        seed: random seed.
        clock: started with the run.
    """
    return {
        "command": command,
        **embedder.record(),
        "recipe": recipe,
        "dataset": dataset.name if dataset else None,
        "dataset_version": dataset.version if dataset else None,
        "seed": seed,
        "versions": versions(),
        "started": clock.started,
        "seconds": clock.seconds,
    }


def one_or_many(objects: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Put one result at the top of `metrics.json`, several under `models`."""
    return objects[0] if len(objects) == 1 else {"models": list(objects)}


T = TypeVar("T")


def configured(config: type) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Let a function take the fields of a dataclass as keyword arguments.

    The function's last parameter, `config`, gets the dataclass. The signature and the docstring that users see list
    its fields, which the dataclass documents under `Attributes:`.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Config:
        ...     seed: int = 0
        >>> @configured(Config)
        ... def draw(name, config):
        ...     return name, config.seed
        >>> draw("a", seed=3)
        ('a', 3)
    """
    known = [field.name for field in dataclasses.fields(config)]

    def decorate(function: Callable[..., T]) -> Callable[..., T]:
        signature = inspect.signature(function)
        own = [parameter for name, parameter in signature.parameters.items() if name != "config"]

        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> T:
            given = {name: options.pop(name) for name in known if name in options}
            for name in options:
                if name not in signature.parameters or name == "config":
                    raise _unknown(function.__name__, name, [*(entry.name for entry in own), *known])
            return function(*args, config=config(**given), **options)

        fields = inspect.signature(config).parameters.values()
        keywords = [field.replace(kind=inspect.Parameter.KEYWORD_ONLY) for field in fields]
        call.__signature__ = signature.replace(parameters=[*own, *keywords])  # type: ignore[attr-defined]
        call.__doc__ = _with_fields(inspect.getdoc(function) or "", inspect.getdoc(config) or "")
        return call

    return decorate


def _unknown(function: str, name: str, valid: list[str]) -> UserError:
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return UserError(f"{function}() takes no parameter {name!r}{hint}; it takes {', '.join(valid)}", parameter=name)


def _with_fields(text: str, fields: str) -> str:
    """Append the attributes of the configuration to the section `Args:` of a docstring."""
    _, _, listed = fields.partition("Attributes:\n")
    listed = listed.split("\n\n")[0].rstrip()
    before, args, after = text.partition("Args:\n")
    if not args:
        return f"{text}\n\nArgs:\n{listed}" if listed else text
    own, blank, rest = after.partition("\n\n")
    return f"{before}{args}{own.rstrip()}\n{listed}{blank}{rest}"


def as_list(value: Any) -> list[Any]:
    """Return a list of what may be one value, several, or None for none.

    >>> as_list("facenet"), as_list(("a", "b")), as_list(None)
    (['facenet'], ['a', 'b'], [])
    """
    if value is None:
        return []
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes | Path)
    return list(value) if several and not hasattr(value, "keys") else [value]
