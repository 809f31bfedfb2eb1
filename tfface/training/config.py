"""Configuration of a distillation: its parameters, the settings of the training, and what it hardens against."""

import dataclasses
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tfface.errors import UserError
from tfface.models._embedder import Embedder

METHODS = ("pgd-at", "trades", "noise")
"""PGD adversarial training (Madry et al. 2018, https://arxiv.org/abs/1706.06083), on attacked views alone; TRADES
(Zhang et al. 2019, https://arxiv.org/abs/1901.08573), on clean and attacked views; Gaussian noise on every view (Cohen
et al. 2019, https://arxiv.org/abs/1902.02918)."""

GROWTH = ("background", "ahead", "none")
_NO_MATTER_AT_0 = ("jitter", "center_weight", "hint_weight", "average_epochs", "rate_floor")
# Places and who does the work: no part of how a preset was made.
_NOT_MADE_BY = ("made_by", "manual_dir", "offline", "work", "saved_models", "growth", "grow_only", "release", "beside")


def _wrong(parameter: str, text: str) -> UserError:
    return UserError(f"`{parameter}` {text}", parameter=parameter)


@dataclass(frozen=True, kw_only=True)
class Hardening:
    """Configuration of a hardening; all of it decides the result.

    Attributes:
        method: one of `METHODS`.
        epsilon: largest change of a value by the attack on a view, on the scale of [0, 1].
        attack_steps: gradients of each attack.
        step_size: of the attack; 0 for Madry's 2.5 epsilon / steps.
        weight: weight of TRADES' second term, the distance between a view's embedding and its attacked one's.
        climb: epochs in which epsilon climbs from 0.
        sigma: standard deviation of the noise, on the scale of [0, 1].

    Raises:
        UserError: an unknown method, or a value out of its range.
    """

    method: str
    epsilon: float = 8 / 255
    attack_steps: int = 3
    step_size: float = 0.0
    weight: float = 6.0
    climb: int = 5
    sigma: float = 0.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UserError(f"unknown way to harden {self.method!r}; valid: {', '.join(METHODS)}")
        if self.adversarial and not 0 < self.epsilon <= 1:
            raise _wrong("epsilon", f"{self.epsilon:g}: adversarial training needs a budget above 0, up to 1")
        if not self.adversarial and not self.sigma > 0:
            raise _wrong("noise", f"{self.sigma:g}: give a standard deviation above 0")

    @property
    def adversarial(self) -> bool:
        """Tell attacked views from noisy ones."""
        return self.method != "noise"

    @property
    def alpha(self) -> float:
        """Size of a step of the attack."""
        return self.step_size or 2.5 * self.epsilon / self.attack_steps

    def record(self) -> dict[str, Any]:
        """Return it JSON-able, for fingerprints and results; without what the method does not use."""
        if not self.adversarial:
            return {"method": self.method, "sigma": self.sigma}
        found = {
            "method": self.method,
            "epsilon": self.epsilon,
            "attack_steps": self.attack_steps,
            "step_size": self.alpha,
            "climb": self.climb,
        }
        return {**found, "weight": self.weight} if self.method == "trades" else found


@dataclass(frozen=True)
class Settings:
    """Configuration of a student's training; all of it decides the result.

    Attributes:
        epochs: number of passes over the training photographs, each on one view of each.
        batch_size: photographs in a batch.
        learning_rate: the highest of the schedule.
        weight_decay: of kernels.
        warmup: epochs in which the rate climbs.
        relation_weight: weight of the loss on the relations inside a batch.
        contrast_weight: weight of the contrastive loss.
        hint_weight: weight of the loss on the teacher's last features, which its answers then have.
        views: number of views of each photograph.
        patience: epochs without a better validation after which to stop; 0 for never.
        precision: `float32`, or `bfloat16` for the convolutions, where the processor has it.
        seed: random seed of weights, order and views.
        small_input: side of the views in the first epochs, smaller than the student's input; 0 for its own.
        small_epochs: number of those epochs.
        jitter: size of random changes of the student's views per epoch (`tfface.training.views.jittered`).
        average_epochs: epochs over which the validated weights are averaged; 0 for each epoch's own.
        rate_floor: share of the highest rate that the rate falls to.
        center_weight: weight of the person's center in the teacher's answers.
        hardening: against attacks or noise; None for ordinary distillation.
    """

    epochs: int = 60
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup: int = 2
    relation_weight: float = 10.0
    contrast_weight: float = 0.0
    hint_weight: float = 0.0
    views: int = 14
    patience: int = 0
    precision: str = "float32"
    seed: int = 0
    small_input: int = 0
    small_epochs: int = 0
    jitter: float = 0.0
    average_epochs: int = 0
    rate_floor: float = 0.0
    center_weight: float = 0.0
    hardening: Hardening | None = None

    def record(self) -> dict[str, Any]:
        """Return it JSON-able, for fingerprints and results; without what a run does not use."""
        unused = {"hardening"}
        unused |= set() if self.small_epochs else {"small_input", "small_epochs"}
        unused |= {name for name in _NO_MATTER_AT_0 if not getattr(self, name)}
        plain = {name: value for name, value in asdict(self).items() if name not in unused}
        return {**plain, **({"hardening": self.hardening.record()} if self.hardening else {})}


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """Configuration of a distillation.

    Attributes:
        name: of the preset, after the architecture; `DATASET-distilled` by default.
        recipe: crop recipe; the teacher's by default.
        input_size: side of the student's input, in pixels; the architecture's by default.
        projection: bring the student's own features to the teacher's size.
        epochs: passes over the training photographs, each on one view of each.
        batch_size: views in a batch.
        learning_rate: the highest of the schedule.
        weight_decay: of kernels.
        warmup: epochs in which the learning rate climbs.
        relation_weight: weight of the loss on the relations inside a batch.
        contrast_weight: weight of the contrastive loss.
        hint_weight: weight of the loss on the teacher's last features, which the views on disk then hold too.
        patience: stop after so many epochs without a better validation; 0 for never.
        small_input: side of the views in the first epochs (faster).
        small_epochs: number of those epochs.
        views: views of each photograph.
        bank_gb: disk for the views, in gigabytes; fewer views if they do not fit.
        mix: share of views that another face is mixed into.
        patch: share of those in which it replaces a part instead.
        warp: displace parts of faces by up to about this share of the side: faces of other shapes.
        jitter: size of a random mirroring, shift, turn, scale, brightness and contrast per epoch, for the student.
        average_epochs: validate and save the mean of the weights over so many epochs; 0 for those of an epoch.
        rate_floor: share of the learning rate that it falls to.
        center_weight: move the teacher's answers to photographs of one person so far to their mean.
        start_from: begin with the weights of a preset of the same network that has seen nobody of the test.
        adversarial: attack the views in training: `pgd-at` learns from attacked ones alone, `trades` from both.
        epsilon: budget of those attacks, on the scale of [0, 1]; 8/255 by default.
        attack_steps: gradients of each attack; 3 by default.
        step_size: of the attack; 2.5 epsilon / steps by default.
        trades_weight: weight of TRADES' second term; 6 by default.
        climb: epochs in which epsilon climbs from 0; 5 by default.
        noise: standard deviation of Gaussian noise on every view in training, on the scale of [0, 1].
        bfloat16: train with convolutions in bfloat16, where the processor has it.
        teacher_bfloat16: the teacher embeds so.
        held_out: share of the people held out; of LFW, View 2's folds 9 and 10 always are.
        train_images: train on a seeded draw of so many photographs (a trial).
        growth: make missing views in the `background` of the training, `ahead` of it, or not at all (`none`).
        grow_only: make the views and end.
        release: measure the held-out people and write the preset to `saved_models`.
        compact: store the preset's weights as int8 with a scale for each output channel, at about half the size.
        beside: preset to attack too at release; that of `start_from` by default.
        saved_models: folder of released presets; the project's own by default.
        work: folder of checkpoints; one of the cache by default.
        made_by: command that makes this preset, for its record; this call by default.
        manual_dir: folder of data set archives at hand.
        seed: random seed.
        offline: never touch a network.

    Raises:
        UserError: a value is out of range.
    """

    name: str | None = None
    recipe: str | None = None
    input_size: int | None = None
    projection: bool = True
    epochs: int = 60
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup: int = 2
    relation_weight: float = 10.0
    contrast_weight: float = 0.0
    hint_weight: float = 0.0
    patience: int = 0
    small_input: int | None = None
    small_epochs: int = 0
    views: int = 14
    bank_gb: float = 12.0
    mix: float = 0.3
    patch: float = 0.0
    warp: float = 0.0
    jitter: float = 0.0
    average_epochs: int = 0
    rate_floor: float = 0.0
    center_weight: float = 0.0
    start_from: str | Embedder | None = None
    adversarial: str | None = None
    epsilon: float | None = None
    attack_steps: int | None = None
    step_size: float | None = None
    trades_weight: float | None = None
    climb: int | None = None
    noise: float | None = None
    bfloat16: bool = False
    teacher_bfloat16: bool = False
    held_out: float = 0.2
    train_images: int | None = None
    growth: str = "background"
    grow_only: bool = False
    release: bool = False
    compact: bool = False
    beside: str | Embedder | None = None
    saved_models: str | Path | None = None
    work: str | Path | None = None
    made_by: str | None = None
    manual_dir: str | Path | None = None
    seed: int = 0
    offline: bool = False

    def __post_init__(self) -> None:
        self._check_least(input_size=16, small_input=16, batch_size=2, train_images=2, epochs=1, views=1)
        self._check_least(attack_steps=1, warmup=0, patience=0, small_epochs=0, average_epochs=0, climb=0, seed=0)
        for name in ("weight_decay", "relation_weight", "contrast_weight", "hint_weight", "trades_weight"):
            self._check(name, 0, math.inf)
        for name in ("mix", "patch", "rate_floor", "center_weight", "epsilon", "step_size"):
            self._check(name, 0, 1)
        self._check("warp", 0, 0.1)
        self._check("jitter", 0, 0.3)
        self._check("learning_rate", 0, math.inf, above=True)
        self._check("bank_gb", 0, math.inf, above=True)
        self._check("noise", 0, 1, above=True)
        if not 0 <= self.held_out < 0.6:
            raise _wrong("held_out", f"{self.held_out:g}: give a share from 0 to below 0.6")
        if self.growth not in GROWTH:
            raise _wrong("growth", f"{self.growth!r} is unknown; valid: {', '.join(GROWTH)}")

    def _check_least(self, **least: int) -> None:
        for name, low in least.items():
            self._check(name, low, math.inf)

    def _check(self, name: str, low: float, high: float, *, above: bool = False) -> None:
        """Refuse a value outside `low` (with `above`: or at it) to `high`; None is the default's."""
        value = getattr(self, name)
        if value is None or ((low < value if above else low <= value) and value <= high and math.isfinite(value)):
            return
        first = f"above {low:g}" if above else f"from {low:g}"
        last = f" to {high:g}" if math.isfinite(high) else " on" if not above else ""
        raise _wrong(name, f"{value:g}: give a number {first}{last}")

    def settings(self, *, views: int, batch_size: int, input_size: int) -> Settings:
        """Return the settings of the training.

        Args:
            views: number of views that fit on disk.
            batch_size: at most the number of photographs.
            input_size: side of the student's input.

        Raises:
            UserError: parameters that do not go together.
        """
        names = {field.name for field in dataclasses.fields(Settings)} & set(vars(self))
        own: dict[str, Any] = {name: getattr(self, name) for name in names}
        if not self.small_epochs:
            small = 0
        elif self.small_input is None or self.small_input >= input_size:
            raise _wrong("small_epochs", f"needs a `small_input` below the student's {input_size} pixels")
        else:
            small = self.small_input
        own |= {"views": views, "batch_size": batch_size, "small_input": small, "hardening": self._hardening()}
        return Settings(**own, precision="bfloat16" if self.bfloat16 else "float32")

    def _hardening(self) -> Hardening | None:
        names = ("epsilon", "attack_steps", "step_size", "trades_weight", "climb")
        given: dict[str, Any] = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.adversarial is None:
            if given:
                raise _wrong(next(iter(given)), "is of adversarial training: give `adversarial` too")
            return None if self.noise is None else Hardening(method="noise", sigma=self.noise)
        if self.adversarial not in METHODS[:2]:
            raise _wrong("adversarial", f"{self.adversarial!r} is unknown; valid: {', '.join(METHODS[:2])}")
        if self.adversarial != "trades" and "trades_weight" in given:
            raise _wrong("trades_weight", "is of `adversarial` trades: leave it out")
        if self.noise is not None:
            raise _wrong("adversarial", "and `noise` each harden the student: give one of them")
        if self.hint_weight:
            raise _wrong("adversarial", "learns from embeddings alone: leave out `hint_weight`")
        if self.small_epochs:
            raise _wrong("adversarial", "attacks views at the student's own size: leave out `small_epochs`")
        fields = {"weight" if name == "trades_weight" else name: value for name, value in given.items()}
        return Hardening(method=self.adversarial, **fields)

    def call(self, teacher: str, student: str, dataset: str) -> str:
        """Return the Python call that makes the preset, with the parameters that are not the default."""
        words = [repr(teacher), repr(student), repr(dataset)]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in _NOT_MADE_BY and value != field.default:
                words.append(f"{field.name}={value.preset.name if isinstance(value, Embedder) else value!r}")
        return f"tfface.distill({', '.join([*words, 'release=True'])})"
