"""Photographs to embeddings through a server: what it serves is checked first, then it is asked in batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfface.artifacts.artifact import Artifact
from tfface.artifacts.photographs import Boxes
from tfface.errors import ImageError, UserError
from tfface.evaluation.embeddings import Embeddings
from tfface.metrics.distances import cosine_distance
from tfface.serving.connection import Connection, Inputs
from tfface.serving.patience import TOO_LARGE, Patience, ServerError
from tfface.serving.photographs import Photograph, batches, boxed, read
from tfface.utils.files import read_json
from tfface.utils.progress import progress

SIGNATURES = {False: "embed_jpeg", True: "embed_jpeg_boxes"}
"""Which is asked without and with face boxes."""
_REFUSED = "is no JPEG or PNG file that the server can read"
_OUTSIDE = ", or its face box lies outside of it"
_TYPES = {"file": "DT_STRING", "box": "DT_FLOAT"}
_ADVICE = {
    "UNAVAILABLE": "is it up, and is this its port for {protocol}?",
    "DEADLINE_EXCEEDED": "give it longer (--deadline) or less at once (--batch)",
    "RESOURCE_EXHAUSTED": "it has too much to do: try later",
    TOO_LARGE: "send fewer photographs at once (--batch), or smaller ones",
    "UNIMPLEMENTED": "is this TensorFlow Serving's port for {protocol}?",
    "INVALID_ARGUMENT": "see its --batching_parameters_file for how many photographs it takes at once (--batch)",
}


@dataclass(frozen=True, eq=False)
class Client:
    """A server's model that takes photographs, one version of it until the end.

    Attributes:
        connection: to the server.
        version: of the model.
        boxed: whether face boxes are sent with the photographs.
        patience: with failing calls.
    """

    connection: Connection
    version: int
    boxed: bool
    patience: Patience

    @classmethod
    def of(
        cls,
        connection: Connection,
        *,
        version: int | None = None,
        boxed: bool = False,
        patience: Patience | None = None,
    ) -> "Client":
        """Looks at what the server serves.

        Args:
            connection: to it.
            version: the one that is wanted; None: the highest that is served.
            boxed: whether face boxes will be sent.
            patience: with failing calls.

        Raises:
            UserError: it cannot be reached, or serves something else.
        """
        patience = patience or Patience()
        try:
            chosen = patience.call(lambda: _available(connection, version))
            client = cls(connection, chosen, boxed, patience)
            client._check_signature()
        except ServerError as error:
            raise explained(error, connection) from error
        return client

    @property
    def signature(self) -> str:
        """What is asked."""
        return SIGNATURES[self.boxed]

    def embed(self, photographs: Sequence[Photograph]) -> tuple[np.ndarray, np.ndarray]:
        """Asks for the embeddings of a few photographs.

        Returns:
            Embeddings float32 (N, D), zeros where there is none; and (N,) bool: there is one.

        Raises:
            UserError: the server cannot be reached, or does not answer what it should.
        """
        if not photographs:
            return np.zeros((0, 0), np.float32), np.zeros(0, bool)
        inputs: dict[str, Sequence[bytes] | np.ndarray] = {"file": [photograph.data for photograph in photographs]}
        if self.boxed:
            inputs["box"] = np.array([photograph.box for photograph in photographs], np.float32)
        try:
            return self.patience.call(lambda: self._ask(inputs, len(photographs)))
        except ServerError as error:
            raise explained(error, self.connection) from error

    def embed_files(self, paths: Sequence[Path], *, count: int, boxes: Boxes | None = None) -> Embeddings:
        """Embeds photographs in batches; one that cannot be used is kept as failed.

        Args:
            paths: of the photographs.
            count: of photographs in a batch, at most.
            boxes: of their faces, where boxes are sent.

        Raises:
            UserError: as `embed`.
        """
        vectors: dict[int, np.ndarray] = {}
        reasons: dict[int, str] = {}
        label = f"embedding at {self.connection.server}"
        for batch in batches(progress(read(paths, boxes), total=len(paths), label=label), count):
            reasons |= {place: str(found) for place, found in batch if isinstance(found, ImageError)}
            sent = [(place, found) for place, found in batch if isinstance(found, Photograph)]
            embedded, valid = self.embed([photograph for _, photograph in sent])
            for (place, _), vector, good in zip(sent, embedded, valid, strict=True):
                if good:
                    vectors[place] = vector
                else:
                    reasons[place] = _REFUSED + (_OUTSIDE if self.boxed else "")
        ok = np.array([place in vectors for place in range(len(paths))], bool)
        rows = np.zeros((len(paths), max(map(len, vectors.values()), default=0)), np.float32)
        for place, vector in vectors.items():
            rows[place] = vector
        return Embeddings(rows, ok, [(str(paths[place]), reasons[place]) for place in sorted(reasons)])

    def check_artifact(self, artifact: Artifact) -> None:
        """Asks for a golden photograph, so that no other model's distances are held against this one's threshold.

        Raises:
            UserError: the server answers it otherwise than the artifact did when it was exported.
        """
        folder = artifact.path.parent
        golden = read_json(folder / "golden.json")
        kind = "face" if self.boxed else "photograph"
        entry = next(entry for entry in golden["inputs"] if entry["kind"] == kind and entry["embedding"])
        data = (folder / entry["file"]).read_bytes()
        photograph = boxed(data, np.array(entry["box"])) if self.boxed else Photograph(data)
        expected = np.array([entry["embedding"]], np.float32)
        embedded, valid = self.embed([photograph])
        same = valid[0] and embedded.shape == expected.shape
        if not same or not cosine_distance(embedded, expected)[0] <= golden["tolerance"]:
            raise UserError(
                f"{self.connection.server} answers {entry['file']} otherwise than {artifact.path} did when it was "
                "exported: it serves another model; give the artifact that it serves"
            )

    def _ask(self, inputs: Inputs, count: int) -> tuple[np.ndarray, np.ndarray]:
        outputs = self.connection.predict(self.version, self.signature, inputs)
        try:
            vectors, valid = outputs["embedding"], outputs["valid"].astype(bool)
        except KeyError as error:
            raise ServerError("INTERNAL", f"the answer has no {error}") from error
        if vectors.ndim != 2 or len(vectors) != count or valid.shape != (count,):
            raise ServerError("INTERNAL", f"{len(vectors)} embeddings for {count} photographs")
        if not np.isfinite(vectors).all():
            raise ServerError("INTERNAL", "embeddings that are no numbers")
        return vectors.astype(np.float32), valid

    def _check_signature(self) -> None:
        found = self.patience.call(lambda: self.connection.signatures(self.version))
        wanted = {name: _TYPES[name] for name in (("file", "box") if self.boxed else ("file",))}
        signature = found.get(self.signature)
        if (
            signature is None
            or dict(signature.inputs) != wanted
            or not {"embedding", "valid"} <= set(signature.outputs)
        ):
            raise UserError(
                f"{self.connection.model} at {self.connection.server} has no signature {self.signature} of "
                f"{' and '.join(wanted)}, only {', '.join(sorted(found))}: it is no export of "
                "this project, or an old one"
            )


def explained(error: ServerError, connection: Connection) -> UserError:
    """A failed call in one line."""
    said = f"{connection.server} ({connection.protocol}, model {connection.model!r}): {error.message}"
    tried = f", tried {error.attempts} times" if error.attempts > 1 else ""
    advice = _ADVICE.get(error.code, "see the server's own log").format(protocol=connection.protocol)
    return UserError(f"{said} [{error.code}{tried}]: {advice}")


def _available(connection: Connection, wanted: int | None) -> int:
    """The version to ask.

    Raises:
        ServerError: it is being loaded, which may pass.
        UserError: the model or the version is not served.
    """
    try:
        states = connection.states()
    except ServerError as error:
        if error.code != "NOT_FOUND":
            raise
        raise UserError(
            f"{connection.server} serves no model {connection.model!r}: give the name in its models.config (--model)"
        ) from error
    ready = [version for version, state in states.items() if state == "AVAILABLE"]
    if wanted in ready or (wanted is None and ready):
        return max(ready) if wanted is None else wanted
    told = ", ".join(f"{version} ({state})" for version, state in sorted(states.items())) or "none"
    coming = [version for version, state in states.items() if state in ("START", "LOADING")]
    if wanted in coming or (wanted is None and coming):
        raise ServerError("UNAVAILABLE", f"it loads the model still; versions: {told}")
    which = "version that can be asked" if wanted is None else f"version {wanted}"
    raise UserError(f"{connection.server} serves no {which} of the model {connection.model!r}; versions: {told}")
