"""`python cli.py augment --dataset five_faces --out DIR`: changed copies of a data set's faces."""

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from tfface.augmentation.kinds import KINDS, PAPER, Kind
from tfface.augmentation.levels import describe
from tfface.cli import _options

if TYPE_CHECKING:
    from tfface.data.dataset import FaceDataset
    from tfface.preprocessing.images import Recipe

_RECIPE = "mtcnn-v1-margin0.20"
_SHEET = 6
_LONGEST = 200  # bytes of a file's name that are its source's; file systems take 255 in all


@click.command(cls=_options.Command)
@_options.dataset_name("five_faces")
@click.option(
    "--kinds",
    "kind_names",
    default=",".join(PAPER),
    show_default=True,
    metavar="NAME[:STRENGTH],...",
    help=f"Each copy passes through all of them: {describe(KINDS)}.",
)
@click.option("--copies", type=click.IntRange(1, 1000), default=1, show_default=True, help="Of each photograph.")
@click.option(
    "--recipe", "recipe_name", metavar="NAME", help=f"Crop recipe; {_RECIPE}, or the data set's own, if absent."
)
@click.option(
    "--size", type=click.IntRange(16, 1024), default=160, show_default=True, help="Side of the images, in pixels."
)
@click.option("--people", type=click.IntRange(min=1), help="A seeded draw of so many people.")
@click.option("--person", "person_names", multiple=True, metavar="NAME", help="This person alone; repeats.")
@click.option("--images-per-person", type=click.IntRange(min=1), help="A seeded sample of so many images a person.")
@click.option("--strict", is_flag=True, help="Stop if a photograph fails, instead of counting it.")
@_options.manual_dir
@_options.seed
@_options.offline
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The new data set; --dataset DIR reads it back.",
)
def command(
    dataset_name: str,
    kind_names: str,
    copies: int,
    recipe_name: str | None,
    size: int,
    people: int | None,
    person_names: tuple[str, ...],
    images_per_person: int | None,
    strict: bool,
    manual_dir: Path | None,
    seed: int,
    offline: bool,
    out: Path,
) -> None:
    """Writes augmented copies of a data set's faces, as a data set of their own.

    DIR/<person>/<photograph>-aug<number>.png, with a manifest, and contact_sheet.png to look at. The same
    command goes on where it was stopped. A copy is drawn from the seed, its photograph's name and its number
    alone.
    """
    from tfface.augmentation.kinds import kinds
    from tfface.data import manifest
    from tfface.data.catalogue import load_dataset
    from tfface.preprocessing.images import recipe

    chosen_kinds = kinds(filter(None, (name.strip() for name in kind_names.split(","))))
    asked = recipe(recipe_name) if recipe_name else None
    dataset = load_dataset(
        dataset_name, manual_dir=manual_dir, offline=offline, images_per_person=images_per_person, seed=seed
    )
    dataset = dataset.of_people(person_names) if person_names else dataset
    dataset = dataset.sample_people(people, seed) if people else dataset
    chosen = asked or recipe(dataset.own_recipe or _RECIPE)
    header: dict[str, Any] = {
        "command": "augment",
        "dataset": dataset.name,
        "dataset_version": dataset.version,
        "images": len(dataset),
        "recipe": chosen.name,
        "size": size,
        "kinds": [str(kind) for kind in chosen_kinds],
        "copies": copies,
        "seed": seed,
    }
    with manifest.claim(out, header) as done:
        if done is None:
            records = _write_copies(out, dataset, chosen, chosen_kinds, header, strict=strict)
            _draw_sheet(out / "contact_sheet.png", dataset, chosen, size, records)
            done = manifest.write(out, header, records)
        else:
            click.echo(f"{out} is complete already")
    failed = len(dataset) - len({record["source"] for record in done.records})
    click.echo(
        f"{out}: {len(done.records):,} images of {len({record['person'] for record in done.records}):,} people, "
        f"{copies} of each of {len(dataset) - failed:,} photographs by {', '.join(header['kinds'])}; "
        f"{failed} photographs failed; contact_sheet.png shows some"
    )


def _write_copies(
    out: Path,
    dataset: "FaceDataset",
    chosen: "Recipe",
    chosen_kinds: tuple[Kind, ...],
    header: dict[str, Any],
    *,
    strict: bool,
) -> list[dict[str, Any]]:
    """Writes the copies that are not there yet; returns the records of all."""
    from tfface.evaluation.embeddings import report_failures
    from tfface.preprocessing.images import encode_png
    from tfface.utils.files import atomic_write
    from tfface.utils.progress import progress

    copies, stems = header["copies"], _stems(dataset)
    records: list[list[dict[str, Any]]] = [
        [{"file": f"{stem}-aug{copy + 1}.png", "person": person, "source": key, "copy": copy} for copy in range(copies)]
        for stem, person, key in zip(stems, dataset.identities, dataset.keys, strict=True)
    ]
    missing = [i for i, own in enumerate(records) if not all((out / record["file"]).exists() for record in own)]
    failed: dict[int, str] = {}
    done = (len(dataset) - len(missing)) * copies
    stream = _changed(dataset, chosen, chosen_kinds, header, missing) if missing else []
    for pixels, copy, index, reason in progress(stream, total=len(dataset) * copies, done=done, label="augmenting"):
        path = out / records[index][copy]["file"]
        if reason:
            failed[index] = reason.decode()
        elif not path.exists():
            with atomic_write(path) as temporary:
                temporary.write_bytes(encode_png(pixels))
    report_failures([(dataset.keys[index], reason) for index, reason in failed.items()], len(dataset), strict=strict)
    return [record for index, own in enumerate(records) if index not in failed for record in own]


def _changed(
    dataset: "FaceDataset",
    chosen: "Recipe",
    chosen_kinds: tuple[Kind, ...],
    header: dict[str, Any],
    indices: list[int],
) -> Any:
    """Copies of the photographs at `indices`: uint8 pixels, the copy's number, the index, why it failed."""
    import numpy as np
    import tensorflow as tf

    from tfface.augmentation.kinds import augmented
    from tfface.augmentation.levels import key_number
    from tfface.data.crops import crop_stream, face_boxes

    boxes = face_boxes(dataset, chosen)
    own = None if boxes is None else [boxes[index] for index in indices]
    cropped = crop_stream(dataset.take(np.array(indices), "missing"), chosen, header["size"], boxes=own)
    numbers = np.array([key_number(dataset.keys[index]) for index in indices], np.int64)
    elements = tf.data.Dataset.zip(cropped, tf.data.Dataset.from_tensor_slices((numbers, np.array(indices, np.int64))))
    elements = elements.map(lambda crop, label: (crop[0], label[0], label[1], crop[1]))
    changed = augmented(elements, chosen_kinds, seed=header["seed"], copies=header["copies"])
    return changed.map(
        lambda image, number, copy, index, reason: (tf.cast(tf.round(image * 255.0), tf.uint8), copy, index, reason)
    ).as_numpy_iterator()


def _stems(dataset: "FaceDataset") -> list[str]:
    """`<person>/<name>` of each photograph, without its suffix; unique, and short enough to name a file."""
    from tfface.augmentation.levels import key_number

    names = [PurePosixPath(key.split("/", 1)[-1]).with_suffix("").as_posix().replace("/", "_") for key in dataset.keys]
    # Without regard to case, as some file systems are.
    stems = [f"{person}/{name}".casefold() for person, name in zip(dataset.identities, names, strict=True)]
    count = Counter(stems)
    found = []
    for key, person, name, stem in zip(dataset.keys, dataset.identities, names, stems, strict=True):
        if count[stem] > 1 or len(name.encode()) > _LONGEST:
            name = f"{name.encode()[:_LONGEST].decode(errors='ignore')}-{key_number(key):08x}"
        found.append(f"{person}/{name}")
    return found


def _draw_sheet(
    target: Path, dataset: "FaceDataset", chosen: "Recipe", size: int, records: list[dict[str, Any]]
) -> None:
    """A photograph of some people, and its first copies."""
    import numpy as np

    from tfface.data.crops import crop_stream, face_boxes
    from tfface.preprocessing.images import decode
    from tfface.report.contact_sheet import draw_contact_sheet

    first: dict[str, str] = {}
    for record in records:
        first.setdefault(record["person"], record["source"])
    boxes, rows = face_boxes(dataset, chosen), []
    for person, key in list(first.items())[:_SHEET]:
        index = dataset.position(key)
        original, _ = next(
            crop_stream(dataset, chosen, size, start=index, stop=index + 1, boxes=boxes).as_numpy_iterator()
        )
        files = [record["file"] for record in records if record["source"] == key][:_SHEET]
        copies = [decode((target.parent / file).read_bytes()).astype(np.float32) / 255 for file in files]
        rows.append((person, [original, *copies]))
    columns = ["original", *(f"copy {number}" for number in range(1, len(rows[0][1])))]
    draw_contact_sheet(target, columns, rows)
