"""Inputs of an evaluation, an attack or an export: a model, a data set, a crop recipe."""

from pathlib import Path

from tfface.data.catalogue import labels_of, load_dataset
from tfface.data.dataset import FaceDataset, Pairs
from tfface.defenses._stack import apply
from tfface.models._embedder import Embedder, FarThreshold, Preset, as_embedder, calibrations_file
from tfface.preprocessing.images import Recipe, recipe

__all__ = [
    "Embedder",
    "FaceDataset",
    "FarThreshold",
    "Model",
    "Pairs",
    "Preset",
    "Recipe",
    "Source",
    "apply",
    "as_embedder",
    "calibrations_file",
    "labels_of",
    "load_dataset",
    "recipe",
]

Model = str | Embedder
"""A model, its name or its file."""
Source = str | Path | FaceDataset
"""A data set, its name, or a folder with one subfolder per person."""
