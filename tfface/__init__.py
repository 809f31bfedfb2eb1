"""tfface: how good a face recognition model is, how it is fooled, how it is made harder to fool."""

__version__ = "0.1.0"
