"""Embed and verify photographs through a server, each in one call."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfface.evaluation.embeddings import Embeddings, report_failures, write_embeddings
from tfface.evaluation.verify import DecidedResult, Verdict
from tfface.preprocessing.images import given_faces
from tfface.serving.client import Client
from tfface.utils.public import Clock, Result, Table, UserError, configured, user_path, versions


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Configuration of calls to a server.

    Attributes:
        server: `HOST:PORT`; port 8500 of this machine by default, 8501 for REST.
        protocol: `grpc` or `rest`.
        model: name that the server serves the model under; the artifact's by default.
        version: of the model; the highest that is served by default.
        artifact: folder of the export that is served. It gives name, metric and threshold, and the server is checked
            to answer as it does.
        boxes: CSV file of lines `image,x,y,width,height`, the faces in pixels.
        points: CSV file of lines `image,x0,y0,...,x4,y4`, five points of each face in pixels, for a model that aligns.
        batch: most photographs in a request.
        deadline: seconds that each request may take.
        retries: of a request to a server that is down, busy or too slow.
    """

    server: str | None = None
    protocol: str = "grpc"
    model: str | None = None
    version: int | None = None
    artifact: str | Path | None = None
    boxes: str | Path | None = None
    points: str | Path | None = None
    batch: int = 16
    deadline: float = 30.0
    retries: int = 4


@dataclass(frozen=True)
class ServedEmbeddings(Result):
    """Embeddings of photographs by a served model.

    Attributes:
        files: the photographs.
        embeddings: in their order.
        record: the server, the model and the run, JSON-able.
    """

    files: Sequence[Path]
    embeddings: Embeddings
    record: dict[str, Any] = field(repr=False)

    @property
    def vectors(self) -> np.ndarray:
        """(N, D) float32 unit vectors; zeros where a photograph failed."""
        return self.embeddings.vectors

    def to_dict(self) -> dict[str, Any]:
        failed = [{"image": key, "reason": reason} for key, reason in self.embeddings.failed]
        counts = {"photographs": len(self.files), "embedded": int(self.embeddings.ok.sum()), "failures": failed}
        return {**self.record, **counts}

    def tables(self) -> list[Table]:
        found = self.to_dict()
        columns = ["served model", "version", "photographs", "embedded", "failed", "values", "seconds"]
        counts = (found["photographs"], found["embedded"], len(found["failures"]), self.vectors.shape[1])
        names = (found["served_model"], found["served_version"])
        return [Table(columns, [[*map(str, names), *map(str, counts), f"{found['seconds']:.2f}"]])]

    def save_files(self, folder: Path) -> list[str]:
        write_embeddings(folder / "embeddings.npz", [str(name) for name in self.files], self.embeddings)
        return ["embeddings.npz"]


@dataclass(frozen=True)
class ServedVerification(DecidedResult):
    """Verdict of a served model on two photographs.

    Attributes:
        files: the photographs.
        verdict: distance, threshold and decision.
        record: the server, the model and the run, JSON-able.
    """

    files: Sequence[Path]
    verdict: Verdict
    record: dict[str, Any] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        return {**self.record, **self.verdict.to_dict()}

    def tables(self) -> list[Table]:
        columns = ["photographs", "served model", "version", "metric", "distance", "threshold", "verdict"]
        names = [", ".join(file.name for file in self.files), self.record["served_model"]]
        return [Table(columns, [[*names, str(self.record["served_version"]), *self.verdict.cells()]])]


@configured(ServerConfig)
def embed(files: Sequence[str | Path], *, config: ServerConfig) -> ServedEmbeddings:
    """Embed photographs through a server; one that cannot be used is logged and counted.

    Args:
        files: paths of the photographs, which are sent as they are.

    Raises:
        UserError: the server cannot be reached or serves something else, or no photograph can be used.

    Example:
        >>> import tfface
        >>> found = tfface.serving.embed(["a.jpg", "b.jpg"], model="facenet-msceleb")  # doctest: +SKIP
        >>> found.vectors.shape  # doctest: +SKIP
        (2, 128)
    """
    clock, paths = Clock(), [user_path(file) for file in files]
    given, faces = given_faces(config.boxes, config.points)
    with _client(config, given) as client:
        embeddings = client.embed(paths, batch=config.batch, faces=faces)
        record = _record("client embed", client, clock)
    report_failures(embeddings.failed, len(paths), strict=False)
    return ServedEmbeddings(paths, embeddings, record)


@configured(ServerConfig)
def verify(
    first: str | Path,
    second: str | Path,
    *,
    threshold: float | None = None,
    far: float | None = None,
    config: ServerConfig,
) -> ServedVerification:
    """Judge through a server if two photographs show one person.

    Args:
        first: path of a photograph.
        second: path of another.
        threshold: distance up to which they match; the artifact's by default. Without an artifact, cosine distance.
        far: use the artifact's threshold that was calibrated at this false accept rate.

    Raises:
        UserError: the server cannot be reached or serves something else, a photograph cannot be used, or there is
            neither threshold nor artifact.

    Example:
        >>> import tfface
        >>> tfface.serving.verify("a.jpg", "b.jpg", artifact="out/facenet-msceleb").same  # doctest: +SKIP
        True
    """
    if config.artifact is None and threshold is None:
        raise UserError("a server does not tell its threshold: give `artifact` or `threshold`", parameter="threshold")
    clock, paths = Clock(), (user_path(first), user_path(second))
    given, faces = given_faces(config.boxes, config.points)
    with _client(config, given) as client:
        verdict = client.verify(*paths, threshold=threshold, far=far, batch=config.batch, faces=faces)
        return ServedVerification(paths, verdict, _record("client verify", client, clock))


def _client(config: ServerConfig, given: str | None) -> Client:
    return Client(
        config.server,
        protocol=config.protocol,
        model=config.model,
        version=config.version,
        artifact=config.artifact,
        given=given,
        deadline=config.deadline,
        retries=config.retries,
    )


def _record(command: str, client: Client, clock: Clock) -> dict[str, Any]:
    """Return the head of `metrics.json`."""
    artifact = client.artifact
    return {
        "command": command,
        "server": client.connection.server,
        "protocol": client.connection.protocol,
        "served_model": client.connection.model,
        "served_version": client.version,
        "signature": client.signature,
        "preset": artifact.preset.name if artifact else None,
        **(artifact.origin() if artifact else {"weights_sha256": None, "artifact": None}),
        "versions": versions(),
        "started": clock.started,
        "seconds": clock.seconds,
    }
