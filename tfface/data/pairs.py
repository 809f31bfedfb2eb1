"""Files about a data set's images: lists of pairs to compare, and of groups of people."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from tfface.data.dataset import ALL_PAIRS, FaceDataset, Pairs
from tfface.errors import UserError
from tfface.utils.files import read_lines, split_lines, user_path

logger = logging.getLogger(__name__)

_TRUTH = {
    "1": True,
    "true": True,
    "yes": True,
    "same": True,
    "0": False,
    "false": False,
    "no": False,
    "different": False,
}
Row = tuple[int, int, int, bool, int]
"""A line's number, the indices of two images, whether they show one person, the fold."""
_HEADINGS = {"image", "image-or-person", "person", "identity", "key", "name"}


def read_pairs_file(path: str | Path, dataset: FaceDataset) -> Pairs:
    """Read pairs in the format of LFW's `pairs.txt`, or as CSV.

    LFW's: `name n1 n2` is a genuine pair, `name1 n1 name2 n2` an impostor pair. A first line of
    `folds n` says that each fold has n genuine and then n impostor lines; `n` alone means one
    fold; it may be missing (one fold). CSV: a header `a,b,same[,fold]`, then keys, 1 or 0; its cells may be separated
    by commas, semicolons or tabs. Pairs of a photograph with itself and repeated ones are left out and counted in the
    log, as labels against the data set's people are.

    Raises:
        UserError: the file cannot be read, a line is none of these or the opposite of another, or an image is missing.
    """
    path = user_path(path)
    lines = read_lines(path)
    if not lines:
        raise UserError(f"{path} holds no pairs")
    cells = split_lines(lines)
    header = [cell.lower() for cell in cells[0][1]] if cells else []
    rows = _csv_pairs(path, cells, dataset) if header[:3] == ["a", "b", "same"] else _lfw_pairs(path, lines, dataset)
    rows = _checked(path, rows, dataset)
    if not rows:
        raise UserError(f"{path} holds no pairs")
    _, first, second, same, fold = zip(*rows, strict=True)
    return Pairs(
        path.name, np.array(first, np.int64), np.array(second, np.int64), np.array(same, bool), np.array(fold, np.int64)
    )


def _checked(path: Path, rows: Sequence[Row], dataset: FaceDataset) -> list[Row]:
    """Return pairs of two photographs, each once; tell what is left out, and labels against the data set's people.

    Raises:
        UserError: two lines contradict each other.
    """
    found: dict[tuple[int, int], Row] = {}
    selves, repeated, against = [], [], []
    for row in rows:
        number, first, second, same, _ = row
        pair = (min(first, second), max(first, second))
        if first == second:
            selves.append(f"line {number}")
        elif pair not in found:
            found[pair] = row
            if same != (dataset.identities[first] == dataset.identities[second]):
                against.append(f"line {number}")
        elif found[pair][3] != same:
            raise UserError(f"{path}, line {number}: the opposite of line {found[pair][0]}: one of them is wrong")
        else:
            repeated.append(f"line {number}")
    _report([path], "pairs are of a photograph with itself and left out", selves)
    _report([path], "pairs were listed before and are left out", repeated)
    _report([path], f"pairs are labelled against the people of {dataset.name}, and count as labelled", against)
    return list(found.values())


class Drawn(NamedTuple):
    """Photographs drawn from a data set, and pairs of them; `rows` are their indices in `source`."""

    faces: FaceDataset
    pairs: Pairs
    source: FaceDataset
    rows: np.ndarray


def draw_pairs(dataset: FaceDataset, lists: Sequence[str], photographs: int, seed: int) -> Drawn:
    """Draw photographs and take their pairs.

    Args:
        dataset: photographs to draw from.
        lists: published lists of pairs, of which as many of each kind are drawn; all pairs of some people if empty.
        photographs: largest number of photographs.
        seed: random seed.

    Raises:
        UserError: `photographs` is below 10, or there are no pairs of a kind.
    """
    if photographs < 10:
        raise UserError(f"`photographs` is {photographs}: give 10 or more", parameter="photographs")
    parts: list[Pairs] = [
        dataset.pairs(name).sample(photographs // 4 // len(lists), genuine=genuine, seed=seed)
        for genuine in (True, False)
        for name in lists
    ]
    if parts:
        sides = [np.concatenate([getattr(part, name) for part in parts]) for name in ("first", "second")]
        used, places = np.unique(sides, return_inverse=True)
        first, second = places.reshape(2, -1)
    else:
        for genuine in (True, False):
            dataset.sample_pairs(1, genuine=genuine)  # says so where there are none
        used = dataset.sample_photographs(photographs, seed)
        first, second = np.triu_indices(len(used), 1)
    drawn = dataset
    if len(used) < len(dataset):
        drawn = dataset.take(used, f"{'-'.join(lists) or 'people'}-{photographs}-photographs-seed{seed}")
    people = np.array(drawn.identities)
    same = people[first] == people[second]
    name = "+".join(lists) or ALL_PAIRS
    pairs = Pairs(name, first, second, same, np.zeros(len(first), np.int64))
    return Drawn(drawn, pairs, dataset, used)


def read_groups_file(paths: str | Path | Sequence[str | Path], dataset: FaceDataset) -> dict[str, str]:
    """Read the group of each image, from one file or several.

    A CSV or TSV holds `image-or-person,group`. A file without a second column lists images, one a
    line, and its name is the group: `lfw_male_names.txt` is `male`. An image may be given by key
    or by file name. Names that the data set does not know, and images that are put into two groups
    (left out of both), are counted on stderr.

    Returns:
        Image key to group, in the data set's order; images of no group are left out.

    Raises:
        UserError: a file cannot be read or is malformed, or no name is known.
    """
    lookup = _group_lookup(dataset)
    found: dict[int, set[str]] = {}
    unknown: list[str] = []
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    for path in map(user_path, given):
        for name, group in _named_groups(path):
            if name not in lookup:
                unknown.append(name)
            for index in lookup.get(name, ()):
                found.setdefault(index, set()).add(group)
    if not found:
        raise UserError(f"{', '.join(map(str, given))}: none of the {len(unknown)} names is in {dataset.name}")
    twice = [dataset.keys[index] for index, groups in sorted(found.items()) if len(groups) > 1]
    _report(given, "names are not in " + dataset.name, unknown)
    _report(given, "images are in more than one group and left out", twice)
    return {dataset.keys[index]: min(groups) for index, groups in sorted(found.items()) if len(groups) == 1}


def _csv_pairs(path: Path, lines: Sequence[tuple[int, list[str]]], dataset: FaceDataset) -> list[Row]:
    header = [cell.lower() for cell in lines[0][1]]
    rows = []
    for number, cells in lines[1:]:
        where = f"{path}, line {number}"
        if len(cells) != len(header):
            raise UserError(f"{where}: {len(cells)} columns where the header has {len(header)}")
        record = dict(zip(header, cells, strict=True))
        fold = record.get("fold", "0")
        if record["same"].lower() not in _TRUTH or not fold.isdecimal():
            raise UserError(f"{where}: same is 1 or 0 and fold a number from 0, not {','.join(cells)!r}")
        images = [_known(dataset.positions, record[column], where, dataset.name) for column in ("a", "b")]
        rows.append((number, images[0], images[1], _TRUTH[record["same"].lower()], int(fold)))
    return rows


def _lfw_pairs(path: Path, lines: Sequence[tuple[int, str]], dataset: FaceDataset) -> list[Row]:
    stems = {str(PurePosixPath(key).with_suffix("")): index for index, key in enumerate(dataset.keys)}
    lines, fold_size = _take_header(path, lines)
    rows = []
    for position, (number, line) in enumerate(lines):
        cells = _cells(line)
        where = f"{path}, line {number}"
        if len(cells) == 3:
            wanted = ((cells[0], cells[1]), (cells[0], cells[2]))
        elif len(cells) == 4:
            wanted = ((cells[0], cells[1]), (cells[2], cells[3]))
        else:
            raise UserError(f"{where}: neither 'name n1 n2' nor 'name1 n1 name2 n2': {line!r}")
        if not all(count.isdecimal() for _, count in wanted):
            raise UserError(f"{where}: an image number is no number: {line!r}")
        first, second = (
            _known(stems, f"{name}/{name}_{int(count):04d}", where, dataset.name) for name, count in wanted
        )
        rows.append((number, first, second, len(cells) == 3, position // fold_size))
    return rows


def _take_header(path: Path, lines: Sequence[tuple[int, str]]) -> tuple[Sequence[tuple[int, str]], int]:
    """Return the lines after the header, and the number of lines in a fold."""
    cells = _cells(lines[0][1])
    if len(cells) > 2 or not all(cell.isdecimal() for cell in cells):
        return lines, len(lines)
    folds, each = (1, int(cells[0])) if len(cells) == 1 else (int(cells[0]), int(cells[1]))
    if len(lines) - 1 != folds * each * 2 or len(lines) == 1:
        raise UserError(
            f"{path} has {len(lines) - 1} pairs where its first line says {folds * each * 2}: get it whole again"
        )
    return lines[1:], each * 2


def _cells(line: str) -> list[str]:
    # Names of the user's own may have spaces; LFW's files separate by tabs.
    return [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()


def _known(positions: dict[str, int], image: str, where: str, dataset: str) -> int:
    if image not in positions:
        raise UserError(f"{where}: image {image} is not in {dataset}")
    return positions[image]


def _group_lookup(dataset: FaceDataset) -> dict[str, list[int]]:
    """Return person, key and file name to image indices; a key wins over a person or file of that name."""
    lookup: dict[str, list[int]] = {}
    for index, (key, identity) in enumerate(zip(dataset.keys, dataset.identities, strict=True)):
        for name in {identity, key.rsplit("/", 1)[-1]}:
            lookup.setdefault(name, []).append(index)
    lookup.update({key: [index] for index, key in enumerate(dataset.keys)})
    return lookup


def _named_groups(path: Path) -> Iterable[tuple[str, str]]:
    lines = read_lines(path)
    rows = split_lines(lines)
    if not rows:
        raise UserError(f"{path} is empty: it must list image names, or image-or-person,group")
    if all(len(cells) == 1 for _, cells in rows):
        group = path.stem.removeprefix("lfw_").removesuffix("_names")
        return [(line.strip(), group) for _, line in lines]
    for number, cells in rows:
        if len(cells) != 2 or not all(cells):
            raise UserError(f"{path}, line {number}: not image-or-person,group: {','.join(cells)!r}")
    named = [(cells[0], cells[1]) for _, cells in rows]
    return named[1:] if named[0][0].lower() in _HEADINGS else named


def _report(paths: Sequence[str | Path], what: str, names: Sequence[str]) -> None:
    if names:
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        logger.warning(f"{', '.join(Path(path).name for path in paths)}: {len(names)} {what} ({shown})")
