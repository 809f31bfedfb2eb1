"""Embeddings and verdicts of a server: what it serves is checked first, then photographs are sent in batches."""

import re
import types
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from tfface.artifacts.artifact import SIGNATURES, Artifact, open_artifact
from tfface.errors import ImageError, UserError
from tfface.evaluation.embeddings import Embeddings
from tfface.evaluation.verify import Verdict
from tfface.metrics.distances import cosine_distance
from tfface.preprocessing.images import BOX, FIVE_POINTS, GivenFaces, face_of, for_server, in_fractions
from tfface.serving.connection import TOO_LARGE, Connection, Inputs, Retry, ServerError
from tfface.utils.files import read_json, user_path
from tfface.utils.progress import progress

PORTS = {"grpc": 8500, "rest": 8501}
BATCH_BYTES = 2**25
"""A batch that is so large takes no further photograph."""
_REFUSED = "is no JPEG or PNG file that the server can read"
_OUTSIDE = {
    None: "",
    BOX: ", or its face box lies outside of it",
    FIVE_POINTS: ", or its five points are no face's inside of it",
}
_TYPES = {"file": "DT_STRING", BOX: "DT_FLOAT", FIVE_POINTS: "DT_FLOAT"}
_ADVICE = {
    "UNAVAILABLE": "is it up, and is this its port for {protocol}?",
    "DEADLINE_EXCEEDED": "give it longer (`deadline`) or less at once (`batch`)",
    "RESOURCE_EXHAUSTED": "it has too much to do: try later",
    TOO_LARGE: "send fewer photographs at once (`batch`), or smaller ones",
    "UNIMPLEMENTED": "is this TensorFlow Serving's port for {protocol}?",
    "INVALID_ARGUMENT": "its batching_parameters_file says how many photographs it takes at once (`batch`)",
}


@dataclass(frozen=True, eq=False)
class Photograph:
    """A photograph, as it is sent.

    Attributes:
        data: the file.
        face: (4,) y0, x0, y1, x1 of its box, or (10,) x0, y0, ..., x4, y4 of its five points, the sides of the
            upright photograph being 1; None without.
    """

    data: bytes
    face: np.ndarray | None = None


Found = Photograph | ImageError


class Client:
    """Client of a served model that takes photographs; it stays with one version of the model.

    Attributes:
        connection: to the server.
        artifact: the export that is served; None if it is not at hand.
        version: of the model.
        given: `box` or `points` where faces are sent with the photographs.

    Example:
        >>> with Client("localhost:8500", model="facenet-msceleb") as client:  # doctest: +SKIP
        ...     client.embed(["a.jpg", "b.jpg"]).vectors.shape
        (2, 128)
    """

    def __init__(
        self,
        server: str | Connection | None = None,
        *,
        protocol: str = "grpc",
        model: str | None = None,
        version: int | None = None,
        artifact: str | Path | Artifact | None = None,
        given: str | None = None,
        deadline: float = 30.0,
        retries: int | Retry = 4,
    ) -> None:
        """Connect to a server and check what it serves.

        Args:
            server: `HOST:PORT`, or a connection; port 8500 of this machine by default, 8501 for REST.
            protocol: `grpc` or `rest`.
            model: name that the server serves the model under; the artifact's by default.
            version: of the model; the highest that is served by default.
            artifact: the export that is served; the server is checked to answer as it does.
            given: faces that are sent with the photographs: `box`, or five `points`.
            deadline: seconds that each request may take.
            retries: of a request to a server that is down, busy or too slow.

        Raises:
            UserError: the server cannot be reached, or serves something else.
        """
        self.artifact = served_artifact(artifact)
        self.given = given
        self.retry = retries if isinstance(retries, Retry) else Retry(retries)
        if isinstance(server, Connection):
            self.connection = server
        else:
            name = model or (self.artifact.name if self.artifact else "")
            if not name:
                message = "`model` names the served model, as in the server's models.config; or give `artifact`"
                raise UserError(message, parameter="model")
            self.connection = connect(protocol, server or f"localhost:{PORTS[protocol]}", name, deadline=deadline)
        try:
            self._check(version)
        except UserError:
            if self.connection is not server:
                self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self.connection.close()

    @property
    def signature(self) -> str:
        """Name of the served function."""
        return SIGNATURES[self.given]

    def embed(self, files: Sequence[str | Path], *, batch: int = 16, faces: GivenFaces | None = None) -> Embeddings:
        """Embed photographs in batches; one that cannot be used is counted as failed.

        Args:
            files: paths of the photographs.
            batch: most photographs in a request.
            faces: by path or file name in pixels, where they are sent: boxes (x, y, width, height), or five points.

        Raises:
            UserError: the server cannot be reached, or does not answer what it should.
        """
        paths = [user_path(file) for file in files]
        vectors: dict[int, np.ndarray] = {}
        reasons: dict[int, str] = {}
        label = f"embedding at {self.connection.server}"
        for group in batches(progress(read(paths, faces), total=len(paths), label=label), batch):
            reasons |= {place: str(found) for place, found in group if isinstance(found, ImageError)}
            sent = [(place, found) for place, found in group if isinstance(found, Photograph)]
            embedded, valid = self.ask([photograph for _, photograph in sent])
            for (place, _), vector, good in zip(sent, embedded, valid, strict=True):
                if good:
                    vectors[place] = vector
                else:
                    reasons[place] = _REFUSED + _OUTSIDE[self.given]
        ok = np.array([place in vectors for place in range(len(paths))], bool)
        rows = np.zeros((len(paths), max(map(len, vectors.values()), default=0)), np.float32)
        for place, vector in vectors.items():
            rows[place] = vector
        return Embeddings(rows, ok, [(str(paths[place]), reasons[place]) for place in sorted(reasons)])

    def verify(
        self,
        first: str | Path,
        second: str | Path,
        *,
        threshold: float | None = None,
        far: float | None = None,
        batch: int = 16,
        faces: GivenFaces | None = None,
    ) -> Verdict:
        """Judge if two photographs show one person.

        Args:
            first: path of a photograph.
            second: path of another.
            threshold: distance up to which they match; the artifact's by default. Without an artifact, cosine distance.
            far: use the artifact's threshold that was calibrated at this false accept rate.
            batch: as in `embed`.
            faces: as in `embed`.

        Raises:
            UserError: as `embed`; a photograph cannot be used, or there is neither threshold nor artifact.
        """
        if self.artifact is not None:
            metric, limit, _ = self.artifact.preset.decide(threshold, far)
        elif threshold is None or far is not None:
            message = "a server does not tell its threshold: give `artifact` or `threshold`"
            raise UserError(message, parameter="threshold")
        else:
            metric, limit = "cosine", threshold
        embeddings = self.embed([first, second], batch=batch, faces=faces)
        for name, reason in embeddings.failed:
            raise ImageError(f"{name}: {reason}")
        return Verdict.of(embeddings.vectors, metric, limit)

    def ask(self, photographs: Sequence[Photograph]) -> tuple[np.ndarray, np.ndarray]:
        """Send one request.

        Returns:
            Embeddings float32 (N, D), zeros where there is none; and (N,) bool: there is one.

        Raises:
            UserError: the server cannot be reached, or does not answer what it should.
        """
        if not photographs:
            return np.zeros((0, 0), np.float32), np.zeros(0, bool)
        inputs: dict[str, Sequence[bytes] | np.ndarray] = {"file": [photograph.data for photograph in photographs]}
        if self.given:
            inputs[self.given] = np.array([photograph.face for photograph in photographs], np.float32)
        try:
            return self.retry.call(lambda: self._predict(inputs, len(photographs)))
        except ServerError as error:
            raise explained(error, self.connection) from error

    def check_artifact(self, artifact: Artifact) -> None:
        """Send a golden photograph, so that no other model's distances are compared with this one's threshold.

        Raises:
            UserError: the server answers it otherwise than the artifact did when it was exported.
        """
        folder = artifact.path.parent
        golden = read_json(folder / "golden.json")
        kind = self.given or "photograph"
        known = [entry for entry in golden["inputs"] if kind in (entry["kind"], *entry) and entry["embedding"]]
        if not known:
            raise UserError(f"{artifact.path} does not take {kind}, which {self.connection.server} does: give its own")
        entry = known[0]
        data = (folder / entry["file"]).read_bytes()
        photograph = with_face(data, np.array(entry[self.given])) if self.given else Photograph(data)
        expected = np.array([entry["embedding"]], np.float32)
        embedded, valid = self.ask([photograph])
        same = valid[0] and embedded.shape == expected.shape
        if not same or not cosine_distance(embedded, expected)[0] <= golden["tolerance"]:
            raise UserError(
                f"{self.connection.server} answers {entry['file']} otherwise than {artifact.path} did when it was "
                "exported: it serves another model; give the artifact that it serves"
            )

    def _predict(self, inputs: Inputs, count: int) -> tuple[np.ndarray, np.ndarray]:
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

    def _check(self, version: int | None) -> None:
        """Choose the version, and check that it is what this client needs."""
        try:
            self.version = self.retry.call(lambda: _available(self.connection, version))
            self._check_signature()
        except ServerError as error:
            raise explained(error, self.connection) from error
        if self.artifact:
            self.check_artifact(self.artifact)

    def _check_signature(self) -> None:
        found = self.retry.call(lambda: self.connection.signatures(self.version))
        wanted = {name: _TYPES[name] for name in (("file", self.given) if self.given else ("file",))}
        signature = found.get(self.signature)
        if (
            signature is None
            or dict(signature.inputs) != wanted
            or not {"embedding", "valid"} <= set(signature.outputs)
        ):
            advice = "it is no export of this project, or an old one"
            if self.given and SIGNATURES[self.given] not in found:
                others = {"`boxes`": BOX, "`points`": FIVE_POINTS}
                named = [name for name, given in others.items() if SIGNATURES[given] in found]
                advice = f"give {named[0]} instead" if named else advice
            raise UserError(
                f"{self.connection.model} at {self.connection.server} has no signature {self.signature} of "
                f"{' and '.join(wanted)}, only {', '.join(sorted(found))}: {advice}"
            )


def connect(protocol: str, server: str, model: str, *, deadline: float = 30.0) -> Connection:
    """Return a connection over `grpc` or `rest`; nothing is sent yet.

    Raises:
        UserError: the server is no `host:port`.
    """
    if not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+):\d{1,5}", server):
        raise UserError(f"{server!r} is no server: give HOST:PORT, as localhost:8500", parameter="server")
    # Each only where it is wanted: REST needs none of gRPC's packages.
    if protocol == "grpc":
        try:
            from tfface.serving.over_grpc import GrpcConnection
        except ImportError as error:
            needed = "`protocol` grpc needs pip install 'tfface[serving]'; rest needs no more packages"
            raise UserError(needed, parameter="protocol") from error
        return GrpcConnection(server, model, deadline=deadline)
    from tfface.serving.over_rest import RestConnection

    return RestConnection(server, model, deadline=deadline)


def explained(error: ServerError, connection: Connection) -> UserError:
    """Explain a failed call in one line."""
    said = f"{connection.server} ({connection.protocol}, model {connection.model!r}): {error.message}"
    tried = f", tried {error.attempts} times" if error.attempts > 1 else ""
    advice = _ADVICE.get(error.code, "see the server's own log").format(protocol=connection.protocol)
    return UserError(f"{said} [{error.code}{tried}]: {advice}")


def served_artifact(artifact: str | Path | Artifact | None) -> Artifact | None:
    """Open the export that is served.

    Raises:
        UserError: it is no artifact, or a TFLite file.
    """
    if artifact is None or isinstance(artifact, Artifact):
        return artifact
    opened = open_artifact(user_path(artifact))
    if opened.format != "savedmodel":
        raise UserError(f"{opened.path} is a TFLite file, which no server serves: give the SavedModel's folder")
    return opened


def _available(connection: Connection, wanted: int | None) -> int:
    """Return the version to use.

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
            f"{connection.server} serves no model {connection.model!r}: give the name in its models.config (`model`)",
            parameter="model",
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


def read(paths: Sequence[Path], faces: GivenFaces | None = None) -> Iterator[Found]:
    """Read photographs one by one; in place of one that cannot be sent, yield why.

    Args:
        paths: of the files.
        faces: by path or file name, in pixels of the upright photograph; None: none are sent.
    """
    for path in paths:
        try:
            data = for_server(path.read_bytes())
            face = face_of(faces, str(path), path.name)
            yield Photograph(data) if face is None else with_face(data, face)
        except OSError as error:
            yield ImageError(f"cannot be read: {error.strerror}")
        except ImageError as error:
            yield error


def with_face(data: bytes, face: np.ndarray) -> Photograph:
    """Return a photograph with its face in pixels: a box (x, y, width, height), or five points.

    Raises:
        ImageError: it cannot be read here, so that its sides are not known.
    """
    return Photograph(data, np.array(in_fractions(face, data)))


def batches(found: Iterable[Found], count: int) -> Iterator[list[tuple[int, Found]]]:
    """Group photographs, each with its place, by `count` and `BATCH_BYTES` at most; one alone may be larger."""
    batch: list[tuple[int, Found]] = []
    size = 0
    for place, photograph in enumerate(found):
        length = len(photograph.data) if isinstance(photograph, Photograph) else 0
        if batch and (len(batch) == count or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((place, photograph))
        size += length
    if batch:
        yield batch
