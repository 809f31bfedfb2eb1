"""A student: any registered architecture, at its teacher's embedding size; its network and its preset."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tfface.errors import UserError
from tfface.models._embedder import Embedder, Preset
from tfface.utils import registry
from tfface.utils.tensorflow_logs import as_usual

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Student:
    """A student before training.

    Attributes:
        preset: the record that its weights will have; unknown fields are empty yet.
        projected: a projection brings its features to the teacher's size.
    """

    preset: Preset
    projected: bool

    def network(self, seed: int) -> "keras.Model":
        """Build the network to train, with fresh weights drawn from a seed.

        Raises:
            UserError: its embedding does not have the preset's size, or Keras's settings would change it.
        """
        import keras

        keras.utils.set_random_seed(seed)
        module = registry.load("models", self.preset.architecture)
        try:
            with as_usual():
                network = getattr(module, "trained", module.build)(self.preset)
        except ValueError as error:
            raise UserError(
                f"{self.preset.architecture} cannot be built for {self.preset.input_size} pixels: "
                f"{str(error).splitlines()[0]}"
            ) from error
        found = network.output_shape[-1]
        if found != self.preset.embedding_size:
            raise UserError(
                f"student {self.preset.architecture} gives {found} values where its teacher gives "
                f"{self.preset.embedding_size}, and there is no projection between: "
                "leave `projection` on, or choose another student",
                parameter="projection",
            )
        return network


def fill_from(network: "keras.Model", start: Embedder, heldout: set[str]) -> None:
    """Fill a network with the weights of a preset, to begin a training with.

    Args:
        network: to train.
        start: a preset of the same network, which lists the people it has seen.
        heldout: the people of the test; it must have seen none of them.

    Raises:
        UserError: it is another network, has seen somebody of the test, or lists nobody.
    """
    preset = start.preset
    if not preset.identities_seen:
        raise UserError(
            f"`start_from` {preset.name}: it does not say whom it was trained on; take a distilled preset",
            parameter="start_from",
        )
    if seen := sorted(preset.identities_seen & heldout):
        raise UserError(
            f"`start_from` {preset.name}: it has seen {len(seen)} of the people held out for the test "
            f"({seen[0]} ...): take a preset of the same split",
            parameter="start_from",
        )
    weights = start.model.get_weights()
    shapes = [tuple(weight.shape) for weight in network.weights]
    if [weight.shape for weight in weights] != shapes:
        raise UserError(
            f"`start_from` {preset.name}: its weights are not those of the student: take one of its kind",
            parameter="start_from",
        )
    network.set_weights(weights)


def student_of(
    architecture: str,
    teacher: Preset,
    *,
    name: str,
    recipe: str,
    input_size: int | None = None,
    projection: bool = True,
) -> Student:
    """Describe the student of an architecture.

    Args:
        architecture: a registered model.
        teacher: the student has its embedding size.
        name: of the preset, after the architecture.
        recipe: of its crops.
        input_size: side of its input; the architecture's own for students if None.
        projection: add a projection to an architecture with an embedding of its own size.

    Raises:
        UserError: no such architecture, or its embedding cannot have the teacher's size.
    """
    if architecture not in registry.names("models"):
        raise registry.unknown("student", architecture, registry.names("models"))
    kind: dict[str, Any] = getattr(registry.load("models", architecture), "DISTILLED", {})
    projects = bool(kind.get("projects"))
    size = input_size or kind.get("input_size") or teacher.input_size
    if projects and not projection:
        own = next((preset.embedding_size for preset in registry.load("models", architecture).PRESETS), 0)
        if own != teacher.embedding_size:
            raise UserError(
                f"student {architecture} gives {own} values where its teacher {teacher.name} gives "
                f"{teacher.embedding_size}: leave `projection` on, or choose another student",
                parameter="projection",
            )
    preset = Preset(
        name=f"{architecture}/{name}",
        sources=(),
        file_name=f"{architecture}.weights.h5",
        sha256=None,
        input_size=size,
        embedding_size=teacher.embedding_size,
        recipe=recipe,
        metric="cosine",
        threshold=0.0,
        threshold_source="",
        training_data="",
        licence="",
        config={"projection": teacher.embedding_size} if projects and projection else {},
    )
    return Student(preset, projected=projects and projection)
