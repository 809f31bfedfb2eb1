"""Data sets of faces: keys in a fixed order, the person of each, the encoded bytes of each."""

import abc
import difflib
import functools
import itertools
import re
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from tfface.errors import UserError
from tfface.utils.files import digest_of, fields_of

if TYPE_CHECKING:
    import tensorflow as tf

ALL_PAIRS = "all-pairs"


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of images to compare.

    Attributes:
        name: `view2`, or the list's file name.
        first: (P,) int, indices into the data set's `keys`.
        second: (P,) int, likewise.
        same: (P,) bool, whether the two show one person.
        fold: (P,) int, from 0.
    """

    name: str
    first: np.ndarray = field(repr=False)
    second: np.ndarray = field(repr=False)
    same: np.ndarray = field(repr=False)
    fold: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.first)

    def sample(self, count: int, *, genuine: bool, seed: int) -> "Pairs":
        """Draw pairs of one kind at random, in the order of the list; all of them if there are no more than `count`."""
        places = np.flatnonzero(self.same == genuine)
        if count < len(places):
            places = np.sort(np.random.default_rng(seed).choice(places, count, replace=False))
        return Pairs(self.name, self.first[places], self.second[places], self.same[places], self.fold[places])


class PresetEmbedder(Protocol):
    """Embedder with its preset."""

    @property
    def preset(self) -> Any: ...


@dataclass(frozen=True, eq=False)
class SampledPairs(Pairs):
    """Pairs of a data set, with access to its photographs.

    Attributes:
        dataset: the data set.
    """

    # Set by `tfface.data.crops`, which lies above data sets.
    cropper: ClassVar[Callable[..., tuple[np.ndarray, np.ndarray]]]

    dataset: "FaceDataset" = field(repr=False)

    def crops(self, embedder: PresetEmbedder, recipe: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Read the photographs of both sides, cropped as the embedder takes them.

        A pair of which a photograph cannot be read, or has no face where the recipe needs one, is left out of both
        arrays, and logged.

        Args:
            embedder: model whose input size and crop recipe are taken.
            recipe: another crop recipe; the data set's own by default, or the preset's.

        Returns:
            Images and references, both float32 (N, H, W, 3) in [0, 1].

        Raises:
            UserError: no pair is left, or the recipe does not fit the data set.
        """
        return self.cropper(self.dataset, self, embedder.preset, recipe)


@dataclass(frozen=True, eq=False)
class FaceDataset(abc.ABC):
    """Images of faces, each with a unique key and a person, in a fixed natural order.

    Attributes:
        name: `lfw/deepfunneled`, `five_faces`, `folder:<folder name>`.
        version: changes with what the images are; part of every cache key and result.
        keys: `<person>/<file>`, unique.
        identities: the person of each image.
        boxes: (N, 4) float32 `x, y, width, height` in pixels where the data set publishes face
            boxes (NaN for an image without one), else None.
        own_recipe: default crop recipe (`whole` where the images are crops already); None for the
            model's.
    """

    name: str
    version: str
    keys: list[str] = field(repr=False)
    identities: list[str] = field(repr=False)
    boxes: np.ndarray | None = field(repr=False)
    own_recipe: str | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.keys)

    def __getstate__(self) -> dict[str, Any]:
        return fields_of(self)

    @functools.cached_property
    def positions(self) -> dict[str, int]:
        """Each key's index in `keys`."""
        return {key: index for index, key in enumerate(self.keys)}

    def position(self, key: str) -> int:
        """Return a key's index.

        Raises:
            UserError: the data set has no such image.
        """
        try:
            return self.positions[key]
        except KeyError:
            raise UserError(f"{self.name} has no image {key!r}") from None

    def fingerprint(self) -> dict[str, Any]:
        """Return what cache keys hold of the data set, JSON-able."""
        return {"dataset": self.name, "version": self.version}

    @abc.abstractmethod
    def encoded(self, start: int = 0, stop: int | None = None) -> "tf.data.Dataset":
        """Return `{'key': string, 'image': string}` of `keys[start:stop]` in order; images are not decoded."""

    def encoded_without(self, start: int, stop: int, left_out: Collection[int] = ()) -> "tf.data.Dataset":
        """Return the same as `encoded(start, stop)`, without the bytes of images that are not to be read.

        Args:
            start: first index.
            stop: one past the last index.
            left_out: indices of images that are not to be read.
        """
        places = [index for index in sorted(left_out) if start <= index < stop]
        if not places:
            return self.encoded(start, stop)
        import tensorflow as tf

        data = self.encoded(start, places[0])
        for index, following in itertools.pairwise([*places, stop]):
            nothing = tf.data.Dataset.from_tensors({"key": tf.constant(self.keys[index]), "image": tf.constant("")})
            data = data.concatenate(nothing).concatenate(self.encoded(index + 1, following))
        return data

    @property
    def unreadable(self) -> Mapping[int, str]:
        """Photographs that could not be read when the data set was opened: index to reason."""
        return {}

    def check_unchanged(self) -> None:
        """Check that what was read in this process is what the version says.

        Raises:
            UserError: a photograph changed after the data set was opened; names it.
        """
        return

    def check_at_hand(self) -> None:
        """Check that the files of a data set that was opened in another process can be read in this one.

        Raises:
            UserError: they are not at the same path.
        """
        if not self._is_at_hand():
            folder = getattr(self, "folder", self.name)
            raise UserError(f"{folder} does not hold {self.name} here: all must see it at that path")

    def _is_at_hand(self) -> bool:
        return True

    @abc.abstractmethod
    def read(self, key: str) -> bytes:
        """Return the encoded bytes of one image.

        Raises:
            UserError: the data set has no such image, or its file is gone.
        """

    def pairs(self, name: str) -> Pairs:
        """Return a published list of pairs (`view2` of LFW).

        Raises:
            UserError: the data set has no such list, or it is not at hand.
        """
        raise UserError(f"{self.name} has no pair list {name!r}: it publishes none; give a pairs file of your own")

    def sample_pairs(self, count: int, *, genuine: bool = True, seed: int = 0) -> SampledPairs:
        """Draw pairs of photographs at random.

        Args:
            count: number of pairs; all of them if there are fewer.
            genuine: pairs of one person (True), or of two people.
            seed: random seed.

        Raises:
            UserError: `count` is below 1, or the data set has no such pair.

        Example:
            >>> pairs = faces.sample_pairs(16, genuine=True, seed=0)  # doctest: +SKIP
            >>> images, references = pairs.crops(embedder)  # doctest: +SKIP
        """
        if count < 1:
            raise UserError(f"`count` is {count}: give 1 or more", parameter="count")
        drawn = sample_all_pairs(self, count, genuine=genuine, seed=seed)
        if not len(drawn):
            kind = "genuine pair: no person has two photographs" if genuine else "impostor pair: it shows one person"
            raise UserError(f"{self.name} has no {kind}")
        return SampledPairs(**vars(drawn), dataset=self)

    @abc.abstractmethod
    def take(self, indices: np.ndarray, label: str) -> "FaceDataset":
        """Return the images at `indices` (ascending) as a data set whose version bears `label`."""

    def sample(self, images_per_person: int, seed: int) -> "FaceDataset":
        """Draw so many images of each person; of fewer, all.

        Each person is drawn from (seed, name) alone, so that others joining or leaving the data
        set do not change the draw.

        Raises:
            UserError: `images_per_person` is below 1.
        """
        if images_per_person < 1:
            raise UserError(f"{images_per_person} images per person: ask for 1 or more")
        rows: dict[str, list[int]] = {}
        for index, identity in enumerate(self.identities):
            rows.setdefault(identity, []).append(index)
        chosen: list[int] = []
        for identity, own in rows.items():
            generator = np.random.default_rng([seed, zlib.crc32(identity.encode())])
            chosen.extend(generator.permutation(own)[:images_per_person])
        return self.take(np.sort(np.array(chosen, int)), f"{images_per_person}-per-person-seed{seed}")

    def sample_people(self, people: int, seed: int) -> "FaceDataset":
        """Draw so many people, with all their images; of fewer, all.

        Raises:
            UserError: `people` is below 1.
        """
        if people < 1:
            raise UserError(f"{people} people: ask for 1 or more")
        # Each person's lot is of (seed, name) alone, so that who joins or leaves changes little.
        lots = {
            name: np.random.default_rng([seed, zlib.crc32(name.encode()), 1]).random() for name in set(self.identities)
        }
        chosen = set(sorted(lots, key=lambda name: (lots[name], name))[:people])
        return self._of(chosen, f"{people}-people-seed{seed}")

    def whose(self, people: str) -> np.ndarray:
        """Find the images of some of the people.

        Args:
            people: `all`; `fold1` to `fold10`, the people of a fold of LFW's View 2; or those of a list of pairs, as
                `view1-train`.

        Returns:
            (N,) bool.

        Raises:
            UserError: the data set has no such list or fold.
        """
        if people == "all":
            return np.ones(len(self), bool)
        fold = re.fullmatch(r"fold(\d+)", people)
        try:
            pairs = self.pairs("view2" if fold else people)
        except UserError as error:
            raise UserError(f"`people` {people}: {error}; or give `people` all", parameter="people") from error
        chosen = pairs.fold == int(fold[1]) - 1 if fold else np.ones(len(pairs), bool)
        if not chosen.any():
            known = f"fold1 to fold{int(pairs.fold.max()) + 1}"
            raise UserError(f"`people` {people}: {pairs.name} of {self.name} has {known}", parameter="people")
        names = np.array(self.identities)
        return np.isin(names, names[np.concatenate([pairs.first[chosen], pairs.second[chosen]])])

    def sample_photographs(self, count: int, seed: int) -> np.ndarray:
        """Draw photographs of people who have several, four or more of each: for many genuine pairs of many people.

        Args:
            count: largest number of photographs.
            seed: random seed.

        Returns:
            Ascending indices; those of all photographs if there are no more than `count`.
        """
        if len(self) <= count:
            return np.arange(len(self))
        random = np.random.default_rng(seed)
        people = np.unique(self.identities, return_inverse=True)[1]
        several = random.permutation(np.flatnonzero(np.bincount(people) > 1))
        each, chosen = max(4, count // max(1, len(several))), np.zeros(0, np.int64)
        for person in several:
            own = random.permutation(np.flatnonzero(people == person))[: min(each, count - len(chosen))]
            # One more photograph of a new person makes no genuine pair.
            chosen = np.concatenate([chosen, own if len(own) > 1 else own[:0]])
        return np.sort(chosen)

    def of_people(self, names: Sequence[str]) -> "FaceDataset":
        """Return the images of some people.

        Raises:
            UserError: one of them is not in the data set.
        """
        known = sorted(set(self.identities))
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" (did you mean {near[0]}?)" if near else f": it has {', '.join(known[:5])} ..."
                raise UserError(f"{self.name} has no person {name!r}{hint}")
        return self._of(set(names), f"people-{digest_of(sorted(set(names)))}")

    def _of(self, people: set[str], label: str) -> "FaceDataset":
        return self.take(np.flatnonzero([identity in people for identity in self.identities]), label)

    def _taken(self, indices: np.ndarray, label: str) -> dict:
        """Return the fields that every kind of data set narrows alike."""
        return {
            "version": f"{self.version}{'.' if '+' in self.version else '+'}{label}",
            "keys": [self.keys[index] for index in indices],
            "identities": [self.identities[index] for index in indices],
            "boxes": None if self.boxes is None else self.boxes[indices],
        }


def elements_at(data: "tf.data.Dataset", rows: np.ndarray) -> "tf.data.Dataset":
    """Return the elements of `data` at `rows`."""
    import tensorflow as tf

    wanted = np.zeros(int(rows[-1]) + 1, bool)
    wanted[rows] = True
    mask = tf.constant(wanted)
    data = data.enumerate().filter(lambda row, _: mask[row]).map(lambda _, example: example)
    return data.apply(tf.data.experimental.assert_cardinality(len(rows)))


def no_images() -> "tf.data.Dataset":
    """Return an empty pipeline of images."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensors({"key": tf.constant(""), "image": tf.constant("")}).take(0)


def sample_all_pairs(images: "FaceDataset", count: int, *, genuine: bool, seed: int) -> Pairs:
    """Draw pairs of one kind at random from all pairs of a data set, without listing them.

    Pairs have ranks, and ranks are drawn. The order within a pair is drawn too.

    Args:
        images: the data set.
        count: number of pairs; all of them if there are fewer.
        genuine: pairs of one person, or of two.
        seed: random seed.
    """
    people = np.unique(np.array(images.identities), return_inverse=True)[1]
    order = np.argsort(people, kind="stable")
    # In this order, a photograph's genuine partners follow it up to its person's end; from there on all are impostors.
    ends = np.searchsorted(people[order], people[order], side="right")
    places = np.arange(len(order))
    starts = places + 1 if genuine else ends
    until = np.cumsum((ends if genuine else len(order)) - starts)
    total = int(until[-1]) if len(until) else 0
    random = np.random.default_rng(seed)
    ranks = random.choice(total, min(count, total), replace=False) if total else np.zeros(0, np.int64)
    first = np.searchsorted(until, ranks, side="right")
    before = np.concatenate([[0], until])[first]
    both = order[np.stack([first, starts[first] + ranks - before], axis=1)].reshape(-1, 2)
    # Otherwise the first one would always be the earlier in the order of names.
    both = np.where(random.random((len(both), 1)) < 0.5, both, both[:, ::-1])
    zeros = np.zeros(len(both), np.int64)
    return Pairs(ALL_PAIRS, both[:, 0], both[:, 1], np.full(len(both), genuine), zeros)
