"""The paper's loop as stages: find, fail, attack, augment, retrain, find again, compress, ship, report.

*Facial Recognition Adversarial Methods and Defenses*.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tfface.paper.stages import Place, Stage
from tfface.paper.weights import STUDENT, Model, Models

if TYPE_CHECKING:
    from tfface.data.dataset import FaceDataset

PAIRS = {"few": 20, "many": 100}
"""How many pairs of each kind are attacked, on data sets of few photographs and of many."""
_MANY = 1000
PAGE = Place("", "report.html")
# A data set is called by its folder.
_ADVERSARIAL = Place("adversarial", "adversarial")
_AUGMENTED = Place("augmented", "augmented")


@dataclass(frozen=True)
class Choices:
    """What is reproduced.

    Attributes:
        main: the name of the model that is attacked and defended.
        models: what is at hand.
        dataset: its name, as `--dataset` takes it.
        version: of the data set.
        protocol: how it is judged.
        pairs: how many of each kind are attacked.
        people: of the head.
        own_head: the attack trains a head as the paper's; else there are too few people for one, and retraining's
            old head is attacked.
        epsilons: budgets.
        seed: of everything drawn at random.
        distill: train the student instead of taking the one that comes with the project.
        settings: arguments of every command that change no result.
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
    settings: Sequence[str] = field(default_factory=tuple)

    @property
    def model(self) -> Model:
        """The one that is attacked and defended."""
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
        """What the distillation names its preset, after the architecture."""
        return f"{self.dataset.rstrip('/').rsplit('/', 1)[-1].replace(' ', '-')}-reproduced-{self.seed}"


def facts_of(dataset: "FaceDataset") -> dict[str, Any]:
    """Of `Choices`, what the data set decides."""
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
    """All stages, each after those that it reads."""
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
    choices: Choices, name: str, command: str, arguments: Sequence[str | Place], models: Sequence[Model], **more: Any
) -> Stage:
    facts = {"weights": {model.name: model.sha256 for model in models}, "dataset_version": choices.version}
    seed = ["--seed", str(choices.seed)]
    more.setdefault("settings", choices.settings)
    return Stage(name=name, command=command, arguments=[*arguments, *seed], facts=facts, **more)


def _repeated(option: str, values: Sequence[object]) -> list[str]:
    return [part for value in values for part in (option, str(value))]


def _on(choices: Choices, name: str) -> list[str | Place]:
    """What most commands take: the model, the data set, where to write."""
    return ["--model", choices.model.name, "--dataset", choices.dataset, "--out", Place(name)]


def _old_head(choices: Choices) -> Place:
    return Place("attack", "head.npz") if choices.own_head else Place("retrain", "old_head.npz")


def _evaluate(choices: Choices) -> Stage:
    models = choices.models.distinct
    arguments = [*_repeated("--model", [model.name for model in models]), "--dataset", choices.dataset]
    return _stage(
        choices,
        "evaluate",
        "evaluate",
        [*arguments, "--protocol", choices.protocol, "--out", Place("evaluate")],
        models,
    )


def _mine(choices: Choices) -> Stage:
    # A published list has folds to calibrate on; a few people make no halves.
    calibrated = ["--calibrated"] if choices.protocol != "all-pairs" else []
    arguments = [*_on(choices, "mine"), "--protocol", choices.protocol, *calibrated]
    return _stage(choices, "mine", "mine", arguments, [choices.model])


def _attack(choices: Choices, name: str) -> Stage:
    """The paper's Table 2: FGSM on a head; of the retrained head again."""
    epsilons = _repeated("--epsilon", choices.epsilons)
    arguments = [*_on(choices, name), "--goal", "classify", *epsilons]
    if name == "attack-again":
        arguments += ["--head", Place("retrain", "head.npz")]
    elif not choices.own_head:
        arguments += ["--head", _old_head(choices)]
    return _stage(choices, name, "attack", arguments, [choices.model])


def _pairs(choices: Choices) -> Stage:
    goals = ["--goal", "dodging", "--goal", "impersonation", "--count", str(choices.pairs)]
    listed = [] if choices.protocol == "all-pairs" else ["--protocol", choices.protocol, "--fold-thresholds"]
    arguments = [*_on(choices, "pairs"), *goals, *_repeated("--epsilon", choices.epsilons), *listed]
    return _stage(choices, "pairs", "attack", arguments, [choices.model])


def _retrain(choices: Choices) -> Stage:
    head: list[str | Place] = ["--head", _old_head(choices)] if choices.own_head else []
    arguments = [*_on(choices, "retrain"), *_repeated("--epsilon", choices.epsilons), *head]
    return _stage(choices, "retrain", "retrain", arguments, [choices.model])


def _adversarial(choices: Choices) -> Stage:
    """The adversarial data set, one image of each test photograph: at the first epsilon."""
    arguments = [*_on(choices, "adversarial"), "--goal", "classify", "--epsilon", str(choices.epsilons[0])]
    arguments += ["--head", _old_head(choices), "--save", _ADVERSARIAL]
    return _stage(choices, "adversarial", "attack", arguments, [choices.model])


def _augmented(choices: Choices) -> Stage:
    """An augmented copy of every photograph of the head's people."""
    crops = ["--recipe", choices.model.recipe, "--size", str(choices.model.input_size)]
    arguments: list[str | Place] = ["--dataset", choices.dataset, *crops, *_repeated("--person", choices.people)]
    arguments += ["--out", _AUGMENTED]
    return _stage(choices, "augmented", "augment", arguments, [], measures=False)


def _evaluate_again(choices: Choices) -> Stage:
    """The models on the images that were made."""
    models = choices.models.distinct
    arguments: list[str | Place] = [*_repeated("--model", [model.name for model in models])]
    arguments += ["--dataset", _ADVERSARIAL, "--dataset", _AUGMENTED, "--out", Place("evaluate-again")]
    return _stage(choices, "evaluate-again", "evaluate", arguments, models)


def _distill(choices: Choices) -> Stage:
    arguments: list[str | Place] = ["--teacher", choices.model.name, "--student", "student"]
    arguments += ["--dataset", choices.dataset, "--name", choices.distilled, "--release", "--out", Place("distill")]
    # The views are made in this process: a second one would be given this command's own line.
    return _stage(
        choices, "distill", "distill", arguments, [choices.model], settings=["--growth", "ahead", *choices.settings]
    )


def _export(choices: Choices) -> Stage:
    arguments: list[str | Place] = ["--model", choices.student, "--format", "savedmodel", "--format", "tflite"]
    arguments += ["--quantize", "float16", "--quantize", "int8", "--evaluate", "--protocol", choices.protocol]
    # An artifact looks for no faces: where photographs are not aligned, as LFW's are, it is given crops.
    if choices.protocol == "all-pairs":
        arguments += ["--recipe", "whole", "--dataset", _AUGMENTED, "--calibration", _AUGMENTED]
    else:
        arguments += ["--dataset", choices.dataset, "--calibration", choices.dataset]
    arguments += ["--out", Place("export")]
    if choices.distill:
        return _stage(choices, "export", "export", arguments, [], after=["distill"])
    return _stage(choices, "export", "export", arguments, [choices.bundled_student])


def _report(stages: Sequence[Stage]) -> Stage:
    folders: list[str | Place] = [Place(stage.name) for stage in stages if stage.measures]
    return Stage(name="report", command="report", arguments=[*folders, "--out", PAGE], measures=False, writes=[PAGE])
