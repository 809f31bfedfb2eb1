"""Reproduce the whole paper: every stage is a call of a public function, done once."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tfface
from tfface.evaluation.inputs import as_embedder, load_dataset
from tfface.paper import pipeline, stages
from tfface.paper.pipeline import PAGE, Choices, Models
from tfface.paper.stages import Stage, Stages
from tfface.utils.public import Clock, Result, Table, UserError, user_path, versions

if TYPE_CHECKING:
    from tfface.evaluation.inputs import Embedder

logger = logging.getLogger(__name__)

OnResult = Callable[[Result], None]
_MODELS = ("embedder", "teacher")
"""Parameters that take a model."""


@dataclass(frozen=True)
class Reproduction(Result):
    """Result of a reproduction.

    Attributes:
        model: name of the model that was attacked and defended.
        dataset: name and version of the data set.
        out: folder of the stages.
        stages: (folder, seconds, `run` or `done before`) of each.
        page: the report; None where its stage was not wanted.
    """

    model: str
    dataset: str
    out: Path
    stages: Sequence[tuple[str, float, str]]
    page: Path | None

    def to_dict(self) -> dict[str, Any]:
        rows = [dict(zip(("stage", "seconds", "now"), row, strict=True)) for row in self.stages]
        page = None if self.page is None else str(self.page)
        return {"model": self.model, "dataset": self.dataset, "out": str(self.out), "stages": rows, "page": page}

    def tables(self) -> list[Table]:
        rows = [[name, f"{seconds:.1f}", state] for name, seconds, state in self.stages]
        notes = [] if self.page is None else [f"{self.page}: {self.page.stat().st_size / 1e6:.1f} MB"]
        return [Table(["stage", "seconds", "now"], rows, title=f"{self.model} on {self.dataset}", notes=notes)]


def reproduce(
    embedder: str = "facenet",
    dataset: str | Path = "lfw",
    *,
    epsilons: Sequence[float] = (0.01, 0.015, 0.02),
    distill: bool = False,
    only: Sequence[str] = (),
    manual_dir: str | Path | None = None,
    seed: int = 0,
    offline: bool = False,
    out: str | Path | None = None,
    on_result: OnResult | None = None,
) -> Reproduction:
    """Reproduce the paper: evaluate, mine, attack, augment, retrain, attack again, export, report.

    A stage is done again only when an argument, the weights, the data set or a package changes. The same call goes on
    where it was stopped. Models whose weights are unavailable are left out.

    Args:
        embedder: name of the model that is attacked and defended.
        dataset: name of a data set, or a folder with one subfolder per person.
        epsilons: budgets of the attacks, on the scale of [0, 1].
        distill: train the student (hours) instead of taking the one at hand.
        only: stages to run, with those that they read; all by default.
        manual_dir: folder of data set archives at hand.
        seed: random seed.
        offline: never touch a network.
        out: output folder; `reproduction/<data set>` by default.
        on_result: called with each result.

    Returns:
        The stages, and which of them ran now.

    Raises:
        UserError: a stage fails, its model or data set is unavailable, or `out` holds something else.

    Example:
        >>> import tfface
        >>> tfface.reproduce("student", "five_faces").page  # doctest: +SKIP
        PosixPath('reproduction/five_faces/report.html')
    """
    faces = load_dataset(dataset, manual_dir=manual_dir, offline=offline)
    folder = user_path(out) if out else _default_out(str(dataset), faces.name)
    settings: dict[str, Any] = {"offline": True} if offline else {}
    settings |= {"manual_dir": str(manual_dir)} if manual_dir else {}
    # Folders of one name in two places are two data sets.
    place = f" ({user_path(dataset).resolve()})" if faces.name.startswith("folder:") else ""
    with stages.claim(folder, faces.name + place) as top:
        loader = _Loader(offline)
        models = _models(embedder, folder, top, loader, distill=distill)
        facts = {"settings": settings, "distill": distill, **pipeline.facts_of(faces)}
        choices = Choices(main=embedder, models=models, dataset=str(dataset), epsilons=epsilons, seed=seed, **facts)
        plan = Stages(folder, pipeline.stages_of(choices), versions())
        rows = [_done(plan, stage, models, loader, on_result) for stage in plan.needed_for(only)]
    page = next(filter(Path.exists, [plan.located(PAGE)]), None)
    return Reproduction(choices.model.name, choices.version, folder, rows, page)


class _Loader:
    """Models by name, each loaded once."""

    def __init__(self, offline: bool) -> None:
        self.offline = offline
        self._loaded: dict[str, Embedder] = {}

    def __call__(self, name: str) -> "Embedder":
        if name not in self._loaded:
            self._loaded[name] = as_embedder(name, offline=self.offline)
        return self._loaded[name]


def _default_out(given: str, name: str) -> Path:
    """Return the folder for a data set by its given and its own name; `lfw/funneled` is no path."""
    if name.startswith("folder:"):
        return Path("reproduction", user_path(given).resolve().name)
    return Path("reproduction", given.replace("/", "-"))


def _models(main: str, out: Path, top: dict[str, Any], loader: _Loader, *, distill: bool) -> Models:
    """Find the models, from `reproduction.json` as long as no file of weights has changed."""
    wanted = pipeline.names(main)
    trace = pipeline.trace(wanted, offline=loader.offline)
    if top.get("weights_trace") == trace:
        models = Models.of(top["models"])
    else:
        models = pipeline.look(wanted, loader, needed=[main, *([] if distill else wanted[-1:])])
        # Traced anew, since files may have been fetched.
        trace = pipeline.trace(wanted, offline=loader.offline)
        stages.save(out, {**top, "weights_trace": trace, "models": models.record()})
    for reason in models.absent.values():
        logger.warning(f"left out: {reason}")
    return models


def _done(
    plan: Stages, stage: Stage, models: Models, loader: _Loader, on_result: OnResult | None
) -> tuple[str, float, str]:
    """Run a stage unless it is done."""
    folder, inputs = plan.folder(stage.name), plan.inputs[stage.name]
    if record := stages.finished(plan.out, folder, inputs):
        return folder.name, record["seconds"], "done before"
    call, clock = plan.call(stage), Clock()
    logger.warning(f"{folder.name}: {call}")
    absent = models.absent if stage.function == "evaluate" else {}
    about = {"stage": stage.name, "call": call, "started": clock.started, "absent": absent}
    stages.begin(folder, inputs, about)
    try:
        result = call_function(stage.function, _with_models(plan.arguments(stage), loader))
        if stage.measures:
            result.save(folder)
    except UserError as error:
        raise UserError(f"{folder.name}: {error}", parameter=error.parameter) from error
    if on_result and isinstance(result, Result):
        on_result(result)
    also = [plan.located(place) for place in stage.writes]
    record = stages.finish(plan.out, folder, inputs, about, seconds=clock.seconds, also=also)
    return folder.name, record["seconds"], "run"


def call_function(name: str, arguments: dict[str, Any]) -> Any:
    """Call a public function of tfface."""
    return getattr(tfface, name)(**arguments)


def _with_models(arguments: dict[str, Any], loader: _Loader) -> dict[str, Any]:
    """Put loaded models in the place of their names."""
    loaded = {
        name: [loader(part) for part in value] if isinstance(value, list) else loader(value)
        for name, value in arguments.items()
        if name in _MODELS
    }
    return {**arguments, **loaded}
