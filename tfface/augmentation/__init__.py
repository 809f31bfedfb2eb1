"""Images changed at random to train on, or by one amount to measure under.

Importing this imports neither TensorFlow nor Keras; changing an image does.
"""

from tfface.augmentation.corruptions import CORRUPTIONS, Corruption, corruption
from tfface.augmentation.kinds import KINDS, PAPER, Kind, augment_batch, augmented, kinds
from tfface.augmentation.levels import Level, describe, key_number

__all__ = [
    "CORRUPTIONS",
    "KINDS",
    "PAPER",
    "Corruption",
    "Kind",
    "Level",
    "augment_batch",
    "augmented",
    "corruption",
    "describe",
    "key_number",
    "kinds",
]
