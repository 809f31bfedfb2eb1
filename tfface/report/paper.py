"""The figures of the paper *Facial Recognition Adversarial Methods and Defenses*, as it prints them.

Where it prints `TODO`, so do we; None means that it says nothing.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperRow:
    """One row of the paper's Table 1.

    Attributes:
        threshold: the distance threshold.
        accuracy: as printed.
        genuine: mean and variance of the distance of genuine pairs.
        impostor: the same of impostor pairs.
    """

    threshold: float
    accuracy: str
    genuine: tuple[float, float] | None = None
    impostor: tuple[float, float] | None = None


TABLE_1 = {
    "resnet50": PaperRow(0.40, "TODO"),
    "deepface": PaperRow(0.23, "68%"),
    "facenet": PaperRow(0.47, "TODO", (0.47, 0.03), (1.38, 0.01)),
}
"""By architecture. FaceNet's text gives another threshold than the table: 0.40, cosine."""

TABLE_2 = {0.01: 0.68, 0.015: 0.89, 0.02: 1.0}
"""The error rate of a six-people head under FGSM, by epsilon; 0 without an attack."""
