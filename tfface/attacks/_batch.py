"""What an attack is given: images, each with its target, its budget and its name."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.errors import UserError

if TYPE_CHECKING:
    from tfface.attacks._attack import Victim


@dataclass(frozen=True, eq=False)
class Batch:
    """Images under attack.

    Attributes:
        images: clean, (N, H, W, 3) float32 in [0, 1].
        targets: the goal's, one row an image.
        epsilon: (N,) float32, the budget of each image.
        keys: (N,) whole numbers that name the images.
        seed: of everything drawn at random.
        restart: which of the attack's attempts this is.
    """

    images: np.ndarray
    targets: np.ndarray
    epsilon: np.ndarray
    keys: np.ndarray
    seed: int = 0
    restart: int = 0

    @classmethod
    def checked(
        cls,
        victim: "Victim",
        images: np.ndarray,
        targets: np.ndarray,
        epsilon: float | np.ndarray,
        *,
        keys: np.ndarray | None = None,
        seed: int = 0,
    ) -> "Batch":
        """A batch, after a look at what was given.

        Args:
            victim: whose input size the images must have.
            images: as above.
            targets: as above.
            epsilon: one for all, or (N,).
            keys: as above; the images' places if absent.
            seed: as above.

        Raises:
            UserError: images of the wrong shape or range, targets of another length, or an epsilon outside [0, 1].
        """
        images = np.asarray(images, np.float32)
        if images.shape[1:] != victim.input_shape:
            raise UserError(
                f"images are {images.shape[1:]}, the attacked model takes {victim.input_shape}: resize them"
            )
        if len(targets) != len(images):
            raise UserError(f"{len(targets)} targets for {len(images)} images: give one an image")
        # Written so that a value which is no number is caught too.
        if images.size and not (images.min() >= 0 and images.max() <= 1):
            raise UserError("images to attack must be finite and in [0, 1]: divide 8-bit images by 255")
        budget = np.broadcast_to(np.asarray(epsilon, np.float32), len(images))
        if not ((budget >= 0) & (budget <= 1)).all():
            raise UserError(f"epsilon {epsilon} is outside [0, 1], the range of an image's values")
        names = np.arange(len(images)) if keys is None else np.asarray(keys)
        return cls(images, np.asarray(targets), budget, names, seed)

    def __len__(self) -> int:
        return len(self.images)

    def of(self, rows: Any, **changes: Any) -> "Batch":
        """Those at some rows; `changes` as of `dataclasses.replace`."""
        parts = {name: getattr(self, name)[rows] for name in ("images", "targets", "epsilon", "keys")}
        return dataclasses.replace(self, **{**parts, **changes})

    def at(self, epsilon: float | np.ndarray) -> "Batch":
        """The same with other budgets, one for all or (N,)."""
        return dataclasses.replace(self, epsilon=np.broadcast_to(np.asarray(epsilon, np.float32), len(self)))
