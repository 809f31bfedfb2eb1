"""Which weights each model name means, remembered so that neither a network nor TensorFlow is asked again."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tfface.errors import Unavailable
from tfface.models._embedder import SAVED_MODELS
from tfface.utils.files import cache_dir, digest_of

if TYPE_CHECKING:
    from tfface.models._embedder import Embedder

PAPER = ("facenet", "resnet50", "deepface")
"""The paper's models."""
STUDENT = "student/lfw-distilled"
"""The one that comes with the project; by its whole name, since a distillation adds others."""


@dataclass(frozen=True)
class Model:
    """A model at hand.

    Attributes:
        name: as `--model` takes it, so that it means these weights alone.
        sha256: of its weights.
        recipe: how it crops photographs.
        input_size: side of its input, in pixels.
    """

    name: str
    sha256: str
    recipe: str
    input_size: int


@dataclass(frozen=True)
class Models:
    """What was asked for and what is at hand.

    Attributes:
        found: by the name asked for.
        absent: why a name has no weights here.
    """

    found: dict[str, Model]
    absent: dict[str, str]

    def record(self) -> dict[str, Any]:
        """JSON-able; `of` reads it."""
        return {"found": {name: asdict(model) for name, model in self.found.items()}, "absent": self.absent}

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Models":
        """What `record` was made of."""
        return cls({name: Model(**facts) for name, facts in record["found"].items()}, dict(record["absent"]))

    @property
    def distinct(self) -> list[Model]:
        """Each once: two names may mean the same weights."""
        return list(dict.fromkeys(self.found.values()))


def names(main: str) -> list[str]:
    """The model that is attacked and defended, the paper's others, and the student."""
    architecture = main.partition("/")[0]
    return [main, *(name for name in (*PAPER, STUDENT) if name.partition("/")[0] != architecture)]


def look(wanted: Sequence[str], load: "Callable[[str], Embedder]", *, needed: Sequence[str]) -> Models:
    """Finds or fetches the weights of models.

    Args:
        wanted: names of models.
        load: gives the embedder of a name.
        needed: those that must be had.

    Raises:
        UserError: one of the needed cannot be had, or no model has that name.
    """
    found, absent = {}, {}
    for name in wanted:
        try:
            embedder = load(name)
        except Unavailable as error:
            if name in needed:
                raise
            absent[name] = str(error)
        else:
            preset = embedder.preset
            # The package's models have a name of theirs; ours are pinned to the preset that was found.
            pinned = name if ":" in name else preset.name
            found[name] = Model(pinned, embedder.sha256, preset.recipe, preset.input_size)
    return Models(found, absent)


def trace(wanted: Sequence[str], *, offline: bool) -> str:
    """A digest that changes when other weights may be had: by the files in the places of these names."""
    folders = [(kind, name.partition("/")[0]) for name in wanted for kind in (cache_dir("weights"), SAVED_MODELS)]
    files = sorted(
        (path.relative_to(kind).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
        for kind, name in folders
        for path in kind.glob(f"{name}/**/*")
        if path.is_file() and path.suffix != ".lock"
    )
    return digest_of([list(wanted), offline, files])
