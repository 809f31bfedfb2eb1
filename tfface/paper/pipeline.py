"""Stages of the paper: find, fail, attack, augment, retrain, find again, compress, ship, report.

*Facial Recognition Adversarial Methods and Defenses*. Which weights each model name means is recorded, so that a second
run asks neither a network nor TensorFlow.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tfface.errors import Unavailable
from tfface.models import _embedder
from tfface.paper.stages import Place, Stage
from tfface.utils.files import cache_dir, digest_of

if TYPE_CHECKING:
    from tfface.evaluation.inputs import Embedder, FaceDataset, Preset

PAPER = ("facenet", "resnet50", "deepface")
"""The paper's models."""
STUDENT = "student/lfw-distilled"
"""The one that comes with the project; by its whole name, since a distillation adds others."""
PAIRS = {"few": 20, "many": 100}
"""Attacked pairs of each kind, on data sets of few photographs and of many."""
_MANY = 1000
TEXT = "the paper's text"
"""Begins the source of a threshold that the paper gives."""
PAGE = Place("", "report.html")
# A data set is called by its folder.
_ADVERSARIAL = Place("adversarial", "adversarial")
_AUGMENTED = Place("augmented", "augmented")


@dataclass(frozen=True)
class Model:
    """A model at hand.

    Attributes:
        name: its whole name, which means these weights alone.
        sha256: hash of its weights.
        recipe: crop recipe.
        input_size: side of its input, in pixels.
        threshold: the paper's for these weights, in the preset's metric; None where it has none.
    """

    name: str
    sha256: str
    recipe: str
    input_size: int
    threshold: float | None = None


@dataclass(frozen=True)
class Models:
    """Models of a reproduction.

    Attributes:
        found: given name to model.
        absent: given name to the reason why it has no weights here.
    """

    found: dict[str, Model]
    absent: dict[str, str]

    def record(self) -> dict[str, Any]:
        """Return a JSON-able record; `of` reads it."""
        return {"found": {name: asdict(model) for name, model in self.found.items()}, "absent": self.absent}

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Models":
        """Read a record."""
        return cls({name: Model(**facts) for name, facts in record["found"].items()}, dict(record["absent"]))

    @property
    def distinct(self) -> list[Model]:
        """Each model once: two names may mean the same weights."""
        return list(dict.fromkeys(self.found.values()))


def names(main: str) -> list[str]:
    """Return the model that is attacked and defended, the paper's others, and the student."""
    architecture = main.partition("/")[0]
    return [main, *(name for name in (*PAPER, STUDENT) if name.partition("/")[0] != architecture)]


def look(wanted: Sequence[str], load: Callable[[str], "Embedder"], *, needed: Sequence[str]) -> Models:
    """Find or fetch the weights of models.

    Args:
        wanted: names of models.
        load: returns the embedder of a name.
        needed: names that must be found.

    Raises:
        UserError: one of the needed is unavailable, or no model has that name.
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
            found[name] = Model(pinned, embedder.sha256, preset.recipe, preset.input_size, _papers_threshold(preset))
    return Models(found, absent)


def _papers_threshold(preset: "Preset") -> float | None:
    """Return the threshold that the paper's text gives for published weights, in their preset's metric."""
    known = [(preset.metric, preset.threshold, preset.threshold_source), *preset.other_thresholds]
    named = (value for metric, value, source in known if source.startswith(TEXT) and metric == preset.metric)
    return next(named, None)


def trace(wanted: Sequence[str], *, offline: bool) -> str:
    """Return a digest of the weights files of these names: it changes when other weights may be available."""
    folders = [
        (kind, name.partition("/")[0]) for name in wanted for kind in (cache_dir("weights"), _embedder.SAVED_MODELS)
    ]
    files = sorted(
        (path.relative_to(kind).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
        for kind, name in folders
        for path in kind.glob(f"{name}/**/*")
        if path.is_file() and path.suffix != ".lock"
    )
    return digest_of([list(wanted), offline, files])


@dataclass(frozen=True)
class Choices:
    """Choices of a reproduction: models, data set, budgets.

    Attributes:
        main: name of the model that is attacked and defended.
        models: models at hand.
        dataset: name of the data set.
        version: its name and version.
        protocol: protocol of its evaluation.
        pairs: number of attacked pairs of each kind.
        people: people of the head.
        own_head: the attack trains a head as the paper's; else there are too few people for one, and retraining's
            old head is attacked.
        epsilons: budgets of attacks.
        seed: random seed.
        distill: train the student instead of taking the one that comes with the project.
        settings: arguments of most functions that change no result.
    """

    main: str
    models: Models
    dataset: str
    version: str
    protocol: str
    pairs: int
    people: Sequence[str]
    own_head: bool
    epsilons: Sequence[float]
    seed: int = 0
    distill: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> Model:
        """The model that is attacked and defended."""
        return self.models.found[self.main]

    @property
    def student(self) -> str:
        """The student's name: a bundled one's, or that of the preset which the distillation makes."""
        return f"student/{self.distilled}" if self.distill else self.bundled_student.name

    @property
    def bundled_student(self) -> Model:
        """The student at hand."""
        return self.models.found.get(STUDENT, self.model)

    @property
    def distilled(self) -> str:
        """Name of the distilled preset, after the architecture."""
        return f"{self.dataset.rstrip('/').rsplit('/', 1)[-1].replace(' ', '-')}-reproduced-{self.seed}"


def facts_of(dataset: "FaceDataset") -> dict[str, Any]:
    """Return those of the `Choices` that the data set decides."""
    from tfface.training.head_data import FEWEST, PEOPLE

    counts = Counter(dataset.identities)
    people = [name for name in sorted(sorted(counts), key=lambda name: -counts[name]) if counts[name] >= FEWEST]
    listed = "view2" in getattr(dataset, "pair_lists", ())
    return {
        "version": f"{dataset.name} {dataset.version}",
        "protocol": "view2" if listed else "all-pairs",
        "pairs": PAIRS["many" if len(dataset) >= _MANY else "few"],
        "people": people[:PEOPLE],
        "own_head": len(people) >= PEOPLE,
    }


def stages_of(choices: Choices) -> list[Stage]:
    """Return all stages, each after those that it reads."""
    head = [_attack(choices, "attack"), _retrain(choices)]
    if not choices.own_head:
        head.reverse()
    found = [
        _evaluate(choices),
        _mine(choices),
        head[0],
        _pairs(choices),
        head[1],
        _adversarial(choices),
        _augmented(choices),
        _attack(choices, "attack-again"),
        _evaluate_again(choices),
        *([_distill(choices)] if choices.distill else []),
        _export(choices),
    ]
    return [*found, _report(found)]


def _stage(
    choices: Choices, name: str, function: str, arguments: Mapping[str, Any], models: Sequence[Model], **more: Any
) -> Stage:
    facts = {"weights": {model.name: model.sha256 for model in models}, "dataset_version": choices.version}
    return Stage(
        name=name,
        function=function,
        arguments={**arguments, "seed": choices.seed},
        facts=facts,
        **{"settings": choices.settings, **more},
    )


def _on(choices: Choices) -> dict[str, Any]:
    """Return the arguments that most functions take: the model and the data set."""
    return {"embedder": choices.model.name, "dataset": choices.dataset}


def _judged(choices: Choices) -> dict[str, Any]:
    """Return the paper's threshold as an argument: a preset's own is one measured at a false accept rate."""
    return {} if choices.model.threshold is None else {"threshold": choices.model.threshold}


def _old_head(choices: Choices) -> Place:
    return Place("attack", "head.npz") if choices.own_head else Place("retrain", "old_head.npz")


def _evaluate(choices: Choices) -> Stage:
    models = choices.models.distinct
    arguments = {
        "embedder": [model.name for model in models],
        "dataset": choices.dataset,
        "protocol": choices.protocol,
    }
    return _stage(choices, "evaluate", "evaluate", arguments, models)


def _mine(choices: Choices) -> Stage:
    # A published list has folds to calibrate on; a few people make no halves.
    arguments = {**_on(choices), "protocol": choices.protocol, "calibrated": choices.protocol != "all-pairs"}
    arguments |= {} if arguments["calibrated"] else _judged(choices)
    return _stage(choices, "mine", "mine", arguments, [choices.model])


def _attack(choices: Choices, name: str) -> Stage:
    """Return the paper's Table 2: FGSM on a head; on the retrained head again."""
    arguments = {**_on(choices), **_judged(choices), "goal": "classify", "epsilons": list(choices.epsilons)}
    if name == "attack-again":
        arguments["head"] = Place("retrain", "head.npz")
    elif not choices.own_head:
        arguments["head"] = _old_head(choices)
    return _stage(choices, name, "attack", arguments, [choices.model])


def _pairs(choices: Choices) -> Stage:
    arguments = {**_on(choices), "goal": ["dodging", "impersonation"], "count": choices.pairs}
    arguments["epsilons"] = list(choices.epsilons)
    if choices.protocol != "all-pairs":
        arguments |= {"protocol": choices.protocol, "fold_thresholds": True}
    else:
        arguments |= _judged(choices)
    return _stage(choices, "pairs", "attack", arguments, [choices.model])


def _retrain(choices: Choices) -> Stage:
    arguments = {**_on(choices), **_judged(choices), "epsilons": list(choices.epsilons)}
    if choices.own_head:
        arguments["head"] = _old_head(choices)
    return _stage(choices, "retrain", "retrain", arguments, [choices.model])


def _adversarial(choices: Choices) -> Stage:
    """Return the adversarial data set, one image of each test photograph: at the first epsilon."""
    arguments = {**_on(choices), **_judged(choices), "goal": "classify", "epsilons": [choices.epsilons[0]]}
    arguments |= {"head": _old_head(choices), "save": _ADVERSARIAL}
    return _stage(choices, "adversarial", "attack", arguments, [choices.model])


def _augmented(choices: Choices) -> Stage:
    """Return an augmented copy of every photograph of the head's people."""
    arguments = {
        "dataset": choices.dataset,
        "recipe": choices.model.recipe,
        "size": choices.model.input_size,
        "person": list(choices.people),
        "out": _AUGMENTED,
    }
    return _stage(choices, "augmented", "augment", arguments, [], measures=False)


def _evaluate_again(choices: Choices) -> Stage:
    """Return the evaluation of the models on the images that were made."""
    models = choices.models.distinct
    arguments = {"embedder": [model.name for model in models], "dataset": [_ADVERSARIAL, _AUGMENTED]}
    return _stage(choices, "evaluate-again", "evaluate", arguments, models)


def _distill(choices: Choices) -> Stage:
    arguments = {
        "teacher": choices.model.name,
        "student": "student",
        "dataset": choices.dataset,
        "name": choices.distilled,
        "release": True,
    }
    return _stage(choices, "distill", "distill", arguments, [choices.model])


def _export(choices: Choices) -> Stage:
    # An artifact looks for no faces: where photographs are not aligned, as LFW's are, it is given crops.
    crops = {"recipe": "whole", "dataset": _AUGMENTED, "calibration": _AUGMENTED}
    own = {"dataset": choices.dataset, "calibration": choices.dataset}
    arguments = {
        "embedder": choices.student,
        "format": ["savedmodel", "tflite"],
        "quantize": ["float16", "int8"],
        "evaluate": True,
        "protocol": choices.protocol,
        **(crops if choices.protocol == "all-pairs" else own),
        "out": Place("export"),
    }
    if choices.distill:
        return _stage(choices, "export", "export", arguments, [], after=["distill"])
    return _stage(choices, "export", "export", arguments, [choices.bundled_student])


def _report(stages: Sequence[Stage]) -> Stage:
    arguments = {"folders": [Place(stage.name) for stage in stages if stage.measures], "out": PAGE}
    return Stage(name="report", function="write_report", arguments=arguments, measures=False, writes=[PAGE])
