"""The search for the smallest epsilon with a gradient attack, step by step.

Between two steps of the loop a trial whose iterate already succeeds is ended, and its place in the
batch goes to the next trial. An attack that starts at the clean image takes its first step along
the same gradient at every epsilon, so that gradient is computed once: a search with FGSM is one
gradient and then forward passes alone. A trial that falls far behind is given up (see `CAUTION`).
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from tfface.attacks._attack import GradientAttack, Judge, Outcome, into_budget, judged
from tfface.attacks._bracket import Bracket
from tfface.attacks._victim import Batch, Victim

CAUTION = 2.0
"""A trial is given up when its margin would have to rise more than so many times faster than it does.

At epsilon 1 none is given up, so what is reported as infinitely far has resisted a whole trial.
"""


@dataclass(eq=False)
class _Place:
    """An image in the batch, and where its current trial stands.

    Attributes:
        row: of the image.
        clean: the image.
        target: the goal's.
        current: the iterate.
        velocity: what the attack carries from step to step.
        gradient: at the clean image.
        bracket: its search; absent until the clean image has been looked at.
        epsilon: of the trial.
        restart: the trial's attempt.
        step: steps taken in it.
        margins: of its iterates so far.
        clean_margin: of the clean image.
        done: the search is over.
    """

    row: int
    clean: np.ndarray
    target: np.ndarray
    current: np.ndarray
    velocity: np.ndarray
    gradient: np.ndarray
    bracket: Bracket | None = None
    epsilon: float = 0.0
    restart: int = 0
    step: int = 0
    margins: list[float] = field(default_factory=list)
    clean_margin: float = 0.0
    done: bool = False

    def hopeless(self, steps: int) -> bool:
        """Tell if the margin would stay below zero in the steps left, rose it `CAUTION` times as fast as it does.

        As it does: as at the best of the last three steps, and ever faster if the last was the fastest.
        """
        if self.epsilon >= 1 or self.step >= steps or len(self.margins) < 3:
            return False
        # The last margin is that of the iterate before the step just taken.
        left = steps - self.step + 1
        rises = np.diff(self.margins[-4:])
        faster = max(0.0, rises[-1] - rises[-2])
        gain = left * max(0.0, rises.max()) + left * left / 2 * faster
        return bool(self.margins[-1] + CAUTION * gain < 0)


@dataclass(frozen=True)
class Stepwise:
    """A queue of images through a batch of places; the fields are `minimal_epsilon`'s arguments."""

    attack: GradientAttack
    victim: Victim
    batch: Batch
    judge: Judge | None
    tolerance: float
    batch_size: int

    def successes(self) -> Iterator[tuple[int, float, np.ndarray]]:
        """Yield (row, an epsilon smaller than those before, the image found at it), as they come."""
        waiting = iter(range(len(self.batch)))
        places: list[_Place] = []
        while True:
            free = self.batch_size - len(places)
            places += [self._enter(row) for row in itertools.islice(waiting, free)]
            if not places:
                return
            yield from self._round(places)
            places = [place for place in places if not place.done]

    def _enter(self, row: int) -> _Place:
        clean = self.batch.images[row]
        nothing = np.zeros_like(clean)
        return _Place(row, clean, self.batch.targets[row], clean, nothing, nothing)

    def _round(self, places: Sequence[_Place]) -> Iterator[tuple[int, float, np.ndarray]]:
        """Look at new images, take a step in every trial, judge the results, begin new trials."""
        fresh = [place for place in places if place.bracket is None]
        ended = [place for place in places if place.bracket and place.step == self.attack.steps]
        climbing = [place for place in places if place.bracket and place.step < self.attack.steps]
        candidates = [(place, place.current) for place in ended]
        candidates += self._climb(fresh, climbing)
        idle = [place for place in fresh if place.bracket]
        if candidates:
            outcome = self._judged(candidates)
            for index, (place, image) in enumerate(candidates):
                if outcome.success[index]:
                    yield place.row, place.epsilon, outcome.images[index]
                idle += self._tell(place, image, outcome, index)
        seen = {place for place, _ in candidates}
        for place in climbing:
            if place not in seen and place.hopeless(self.attack.steps):
                idle += self._ended(place, success=False, margin=place.margins[-1])
        self._begin([place for place in idle if not place.done])

    def _climb(self, fresh: Sequence[_Place], climbing: Sequence[_Place]) -> Iterator[tuple[_Place, np.ndarray]]:
        """Take one gradient for new images and trials alike; yield the images that seem to have succeeded."""
        both = [*fresh, *climbing]
        if not both:
            return
        gradients, success, margin = self.victim.gradient(_stack(both, "current"), _stack(both, "target"))
        for place, gradient, won, value in zip(fresh, gradients.numpy(), success.numpy(), margin.numpy(), strict=False):
            # A copy: a view would keep the whole batch's gradients for as long as the image stays.
            place.gradient, place.clean_margin = gradient.copy(), float(value)
            if won or self.judge is not None:
                yield place, place.clean
            else:
                place.bracket = Bracket(self.tolerance, place.clean_margin)
        for place, value in zip(climbing, margin.numpy()[len(fresh) :], strict=True):
            place.margins.append(float(value))
        before = [place.current for place in climbing]
        self._move(climbing, gradients[len(fresh) :])
        for place, image, won in zip(climbing, before, success.numpy()[len(fresh) :], strict=True):
            # A judge sees the last image of a trial only, as in `run`.
            if won and self.judge is None:
                yield place, image

    def _judged(self, candidates: Sequence[tuple[_Place, np.ndarray]]) -> Outcome:
        places = [place for place, _ in candidates]
        clean, epsilon = _stack(places, "clean"), _stack(places, "epsilon")
        final = into_budget(np.stack([image for _, image in candidates]), clean, epsilon, self.attack.norm)
        return judged(self.victim, final, clean, _stack(places, "target"), self.attack.norm, self.judge)

    def _tell(self, place: _Place, image: np.ndarray, outcome: Outcome, index: int) -> list[_Place]:
        """Take in a judgement; return the place, if it now waits for a trial."""
        success, margin = bool(outcome.success[index]), float(outcome.margin[index])
        if place.bracket is None:
            place.bracket = Bracket(self.tolerance, margin)
            place.done = success
            return [place]
        if not success and image is not place.current:
            return []  # An iterate on the way, refused by a hair: the trial goes on.
        return self._ended(place, success=success, margin=margin, reach=float(outcome.distance[index]))

    def _ended(self, place: _Place, *, success: bool, margin: float, reach: float = 0.0) -> list[_Place]:
        """Go on to the next attempt or the next epsilon."""
        place.restart += 1
        if place.bracket and (success or place.restart == self.attack.attempts):
            place.bracket.tell(place.epsilon, success=success, margin=margin, reach=reach)
            place.done = place.bracket.done
            place.restart = 0
        return [place]

    def _begin(self, places: Sequence[_Place]) -> None:
        """Start a trial in each place."""
        if not places:
            return
        for place in places:
            if place.restart == 0 and place.bracket:
                place.epsilon = place.bracket.probe()
            place.velocity = np.zeros_like(place.clean)
            place.step, place.margins = 0, []
        if self.attack.deterministic:
            for place in places:
                place.current, place.margins = place.clean, [place.clean_margin]
            self._move(places, _stack(places, "gradient"))
            return
        for restart in {place.restart for place in places}:
            self._start([place for place in places if place.restart == restart], restart)

    def _start(self, places: Sequence[_Place], restart: int) -> None:
        rows = [place.row for place in places]
        starts = self.attack.start(self.batch.of(rows, restart=restart).at(_stack(places, "epsilon")))
        for place, start in zip(places, starts, strict=True):
            place.current = start

    def _move(self, places: Sequence[_Place], gradients: tf.Tensor | np.ndarray) -> None:
        if not places:
            return
        move = self.victim.compiled(("move", self.attack), self.attack.move)
        epsilon = _stack(places, "epsilon").astype(np.float32)
        current, velocity = move(
            _stack(places, "current"), _stack(places, "velocity"), gradients, _stack(places, "clean"), epsilon
        )
        for place, image, carried in zip(places, current.numpy(), velocity.numpy(), strict=True):
            place.current, place.velocity, place.step = image, carried, place.step + 1


def _stack(places: Sequence[_Place], name: str) -> np.ndarray:
    return np.stack([getattr(place, name) for place in places])
