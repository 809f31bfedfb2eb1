"""Augment a data set: changed copies of its faces, as a data set of their own."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from tfface.augmentation.changes import PAPER, Kind, augmented, key_number
from tfface.augmentation.changes import kinds as named_kinds
from tfface.data import manifest
from tfface.data.crops import Crops, crop_stream, main_faces
from tfface.evaluation.embeddings import report_failures
from tfface.evaluation.inputs import FaceDataset, load_dataset
from tfface.preprocessing.images import Recipe, decode, encode_png
from tfface.preprocessing.images import recipe as named_recipe
from tfface.utils import files
from tfface.utils.progress import progress
from tfface.utils.public import Result, Table, as_list, configured

RECIPE = "mtcnn-v1-margin0.20"
"""Crop recipe where neither the caller nor the data set names one."""
_SHEET = 6
_LONGEST = 200  # bytes of a file's name that are its source's; file systems take 255 in all


@dataclass(frozen=True)
class AugmentedFaces(Result):
    """Result of an augmentation: a folder of images with its manifest.

    Attributes:
        folder: the new data set.
        manifest: its header and records.
        resumed: True where all was there already.
    """

    folder: Path
    manifest: manifest.Manifest
    resumed: bool

    @property
    def dataset(self) -> FaceDataset:
        """The new data set."""
        return load_dataset(self.folder)

    def __str__(self) -> str:
        header, records = self.manifest.header, self.manifest.records
        sources = len({record["source"] for record in records})
        return (
            f"{self.folder}: {len(records):,} images of {len({record['person'] for record in records}):,} people, "
            f"{header['copies']} of each of {sources:,} photographs by {', '.join(header['kinds'])}; "
            f"{header['images'] - sources} photographs failed; contact_sheet.png shows some"
        )

    def to_dict(self) -> dict[str, Any]:
        header, records = self.manifest.header, self.manifest.records
        failed = header["images"] - len({record["source"] for record in records})
        return {**header, "images_written": len(records), "failed_images": failed}

    def tables(self) -> list[Table]:
        found = self.to_dict()
        cells = [f"{found[name]:,}" for name in ("images", "copies", "images_written", "failed_images")]
        return [Table(["folder", "photographs", "copies", "images", "failed"], [[str(self.folder), *cells]])]


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Configuration of an augmentation.

    Attributes:
        kinds: `NAME` or `NAME:STRENGTH` of each change, or several in one text with commas; each copy passes
            through all of them.
        copies: of each photograph.
        recipe: crop recipe; the data set's own by default, or `mtcnn-v1-margin0.20`.
        size: side of the images in pixels.
        people: draw so many people.
        person: this person alone; several names for several.
        images_per_person: draw so many images of each person.
        strict: stop if a photograph fails, instead of counting it.
        manual_dir: folder of data set archives at hand.
        seed: random seed.
        offline: never touch a network.
    """

    kinds: str | Sequence[str] = PAPER
    copies: int = 1
    recipe: str | None = None
    size: int = 160
    people: int | None = None
    person: str | Sequence[str] = ()
    images_per_person: int | None = None
    strict: bool = False
    manual_dir: str | Path | None = None
    seed: int = 0
    offline: bool = False


@configured(AugmentationConfig)
def augment(
    dataset: str | Path | FaceDataset = "five_faces", *, out: str | Path, config: AugmentationConfig
) -> AugmentedFaces:
    """Write augmented copies of a data set's faces, as a data set of their own.

    The files are `<person>/<photograph>-aug<number>.png`, with a manifest, and `contact_sheet.png` to look at. The same
    call goes on where it was stopped. A copy is drawn from the seed, its photograph's name and its number alone.

    Args:
        dataset: a data set, its name, or a folder with one subfolder per person.
        out: folder of the new data set, which `load_dataset` reads.

    Returns:
        The folder of the augmented data set and what was left out.

    Raises:
        UserError: the data set cannot be had, a kind or recipe is unknown, or the folder holds something else.

    Example:
        >>> import tfface
        >>> made = tfface.augment("five_faces", out="augmented", copies=2)  # doctest: +SKIP
        >>> len(made.dataset)  # doctest: +SKIP
        234
    """
    chosen_kinds = named_kinds(
        filter(None, (name.strip() for text in as_list(config.kinds) for name in text.split(",")))
    )
    asked = named_recipe(config.recipe) if config.recipe else None
    faces = _faces(dataset, config)
    chosen, folder = asked or named_recipe(faces.own_recipe or RECIPE), files.user_path(out)
    header: dict[str, Any] = {
        "command": "augment",
        "dataset": faces.name,
        "dataset_version": faces.version,
        "images": len(faces),
        "recipe": chosen.name,
        "size": config.size,
        "kinds": [str(kind) for kind in chosen_kinds],
        "copies": config.copies,
        "seed": config.seed,
    }
    with manifest.claim(folder, header, faces.identities) as done:
        if done is not None:
            return AugmentedFaces(folder, done, resumed=True)
        records = _write_copies(folder, faces, chosen, chosen_kinds, header, strict=config.strict)
        _draw_sheet(folder / "contact_sheet.png", faces, chosen, config.size, records)
        return AugmentedFaces(folder, manifest.write(folder, header, records), resumed=False)


def _faces(dataset: str | Path | FaceDataset, config: AugmentationConfig) -> FaceDataset:
    faces = load_dataset(
        dataset,
        manual_dir=config.manual_dir,
        offline=config.offline,
        images_per_person=config.images_per_person,
        seed=config.seed,
    )
    people = as_list(config.person)
    faces = faces.of_people(people) if people else faces
    return faces.sample_people(config.people, config.seed) if config.people else faces


def _write_copies(
    out: Path,
    dataset: FaceDataset,
    recipe: Recipe,
    kinds: tuple[Kind, ...],
    header: dict[str, Any],
    *,
    strict: bool,
) -> list[dict[str, Any]]:
    """Write the copies that are not there yet; return the records of all."""
    copies, stems = header["copies"], _stems(dataset)
    records: list[list[dict[str, Any]]] = [
        [{"file": f"{stem}-aug{copy + 1}.png", "person": person, "source": key, "copy": copy} for copy in range(copies)]
        for stem, person, key in zip(stems, dataset.identities, dataset.keys, strict=True)
    ]
    missing = [i for i, own in enumerate(records) if not all((out / record["file"]).exists() for record in own)]
    failed: dict[int, str] = {}
    done = (len(dataset) - len(missing)) * copies
    stream = _changed(dataset, recipe, kinds, header, missing) if missing else iter(())
    for pixels, copy, index, reason in progress(stream, total=len(dataset) * copies, done=done, label="augmenting"):
        path = out / records[index][copy]["file"]
        if reason:
            failed[index] = reason.decode()
        elif not path.exists():
            with files.atomic_write(path) as temporary:
                temporary.write_bytes(encode_png(pixels))
    report_failures([(dataset.keys[index], reason) for index, reason in failed.items()], len(dataset), strict=strict)
    return [record for index, own in enumerate(records) if index not in failed for record in own]


def _changed(
    dataset: FaceDataset, recipe: Recipe, kinds: tuple[Kind, ...], header: dict[str, Any], indices: list[int]
) -> Iterator[Any]:
    """Yield copies of the photographs at `indices`: uint8 pixels, the copy's number, the index, why it failed."""
    import tensorflow as tf

    faces = main_faces(dataset, recipe)
    own = None if faces is None else [faces[index] for index in indices]
    cropped = crop_stream(dataset.take(np.array(indices), "missing"), recipe, header["size"], faces=own)
    numbers = np.array([key_number(dataset.keys[index]) for index in indices], np.int64)
    elements = tf.data.Dataset.zip(cropped, tf.data.Dataset.from_tensor_slices((numbers, np.array(indices, np.int64))))
    elements = elements.map(lambda crop, label: (crop[0], label[0], label[1], crop[1]))
    changed = augmented(elements, kinds, seed=header["seed"], copies=header["copies"])
    return changed.map(
        lambda image, number, copy, index, reason: (tf.cast(tf.round(image * 255.0), tf.uint8), copy, index, reason)
    ).as_numpy_iterator()


def _stems(dataset: FaceDataset) -> list[str]:
    """Return `<person>/<name>` of each photograph, without its suffix; unique, and short enough to name a file."""
    names = [PurePosixPath(key.split("/", 1)[-1]).with_suffix("").as_posix().replace("/", "_") for key in dataset.keys]
    stems = [files.folded(f"{person}/{name}") for person, name in zip(dataset.identities, names, strict=True)]
    count = Counter(stems)
    found = []
    for key, person, name, stem in zip(dataset.keys, dataset.identities, names, stems, strict=True):
        if count[stem] > 1 or len(name.encode()) > _LONGEST:
            name = f"{files.cut_to_bytes(name, _LONGEST)}-{key_number(key):08x}"
        found.append(f"{person}/{name}")
    return found


def _draw_sheet(target: Path, dataset: FaceDataset, recipe: Recipe, size: int, records: list[dict[str, Any]]) -> None:
    """Draw a photograph of some people, and its first copies."""
    from tfface.report.pictures import draw_contact_sheet, save_picture

    first: dict[str, str] = {}
    for record in records:
        first.setdefault(record["person"], record["source"])
    shown = list(first.items())[:_SHEET]
    originals, _ = Crops(dataset, recipe, size)(np.array([dataset.position(key) for _, key in shown], int))
    rows = []
    for (person, key), original in zip(shown, originals, strict=True):
        names = [record["file"] for record in records if record["source"] == key][:_SHEET]
        copies = [decode((target.parent / name).read_bytes()).astype(np.float32) / 255 for name in names]
        rows.append((person, [original, *copies]))
    columns = ["original", *(f"copy {number}" for number in range(1, len(rows[0][1])))]
    save_picture(draw_contact_sheet(columns, rows), target)
