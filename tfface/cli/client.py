"""`python cli.py client embed|verify FILES...`: photographs through a TensorFlow Serving server."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfface.cli import _options

if TYPE_CHECKING:
    from tfface.artifacts.artifact import Artifact
    from tfface.evaluation.embeddings import Embeddings
    from tfface.serving.client import Client

_PORTS = {"grpc": 8500, "rest": 8501}


@click.command(cls=_options.Command)
@click.argument("action", type=click.Choice(["embed", "verify"]))
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--server", metavar="HOST:PORT", help="[default: localhost:8500, or :8501 for rest]")
@click.option("--protocol", type=click.Choice(["grpc", "rest"]), default="grpc", show_default=True)
@click.option("--model", "model_name", metavar="NAME", help="As the server calls it; the artifact's name if absent.")
@click.option("--version", type=click.IntRange(min=0), help="Of the model; the highest that is served if absent.")
@click.option(
    "--artifact",
    "artifact_path",
    type=click.Path(exists=True, path_type=Path),
    metavar="DIR",
    help="The export that is served, at hand here too: it gives name, metric and threshold, and the server is asked "
    "whether it answers as it does.",
)
@click.option(
    "--threshold",
    type=_options.Distance(),
    help="For verify: distances up to it match; the artifact's if absent. Cosine distance without --artifact.",
)
@click.option(
    "--boxes",
    "boxes_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.csv",
    help="Lines image,x,y,width,height, the faces in pixels.",
)
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True, help="Photographs in a request.")
@click.option(
    "--deadline",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="S",
    help="Seconds that each request may take.",
)
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    help="Of a request to a server that is down, busy or too slow.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write metrics.json there, and of embed embeddings.npz.",
)
def command(action: str, files: tuple[Path, ...], out: Path | None, **options: Any) -> None:
    """Embeds photographs, or verifies a pair, through a served SavedModel.

    FILES are sent as they are; the server decodes and crops them. A photograph that cannot be used
    is named and counted. A server does not tell its threshold: verify takes it from --artifact or
    --threshold.
    """
    from tfface.artifacts.photographs import read_boxes
    from tfface.errors import UserError
    from tfface.utils.result import Clock, versions

    clock = Clock()
    artifact = _artifact(options)
    if action == "verify":
        if len(files) != 2:
            raise UserError(f"client verify takes two photographs, not {len(files)}")
        if not artifact and options["threshold"] is None:
            raise UserError("a server does not tell its threshold: give --artifact DIR or --threshold")
    elif options["threshold"] is not None:
        raise UserError("--threshold goes with client verify")
    boxes = read_boxes(options["boxes_file"]) if options["boxes_file"] else None
    with _connection(options, artifact) as connection:
        client = _client(connection, artifact, options, boxed=boxes is not None)
        embeddings = client.embed_files(files, count=options["batch"], boxes=boxes)
    record = {
        "command": f"client {action}",
        "server": connection.server,
        "protocol": connection.protocol,
        "served_model": connection.model,
        "served_version": client.version,
        "signature": client.signature,
        "preset": artifact.preset.name if artifact else None,
        **(artifact.origin() if artifact else {"weights_sha256": None, "artifact": None}),
        "versions": versions(),
        "started": clock.started,
        "seconds": clock.seconds,
    }
    if action == "verify":
        _report_verdict(files, embeddings, *_limit(artifact, options["threshold"]), record, out)
    else:
        _report_embeddings(files, embeddings, record, out)


def _artifact(options: dict[str, Any]) -> "Artifact | None":
    from tfface.artifacts.artifact import open_artifact
    from tfface.errors import UserError

    if options["artifact_path"] is None:
        if options["model_name"] is None:
            raise UserError("--model names the served model, as in the server's models.config; or give --artifact DIR")
        return None
    artifact = open_artifact(options["artifact_path"])
    if artifact.format != "savedmodel":
        raise UserError(f"{artifact.path} is a TFLite file, which no server serves: give the SavedModel's folder")
    return artifact


def _connection(options: dict[str, Any], artifact: "Artifact | None") -> Any:
    from tfface.serving.connection import connect

    protocol = options["protocol"]
    server = options["server"] or f"localhost:{_PORTS[protocol]}"
    name = options["model_name"] or (artifact.name if artifact else "")
    return connect(protocol, server, name, deadline=options["deadline"])


def _client(connection: Any, artifact: "Artifact | None", options: dict[str, Any], *, boxed: bool) -> "Client":
    from tfface.serving.client import Client
    from tfface.serving.patience import Patience

    patience = Patience(retries=options["retries"])
    client = Client.of(connection, version=options["version"], boxed=boxed, patience=patience)
    if artifact:
        client.check_artifact(artifact)
    return client


def _limit(artifact: "Artifact | None", threshold: float | None) -> tuple[str, float]:
    """Metric and threshold of a verdict."""
    if artifact is None:
        assert threshold is not None, "one of the two was asked for"
        return "cosine", threshold
    return artifact.preset.metric, artifact.preset.threshold if threshold is None else threshold


def _report_embeddings(
    files: tuple[Path, ...], embeddings: "Embeddings", record: dict[str, Any], out: Path | None
) -> None:
    import numpy as np

    from tfface.cli._output import print_table
    from tfface.evaluation.embeddings import report_failures
    from tfface.utils.files import atomic_write, write_json

    report_failures(embeddings.failed, len(files), strict=False)
    count, size = int(embeddings.ok.sum()), embeddings.vectors.shape[1]
    print_table(
        ["served model", "version", "photographs", "embedded", "failed", "values", "seconds"],
        [
            [
                record["served_model"],
                str(record["served_version"]),
                str(len(files)),
                str(count),
                str(len(embeddings.failed)),
                str(size),
                f"{record['seconds']:.2f}",
            ]
        ],
    )
    if not out:
        return
    path = out / "embeddings.npz"
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            keys=np.array([str(name) for name in files])[embeddings.ok],
            embeddings=embeddings.vectors[embeddings.ok],
            failed_keys=np.array([key for key, _ in embeddings.failed], dtype=str),
            failed_reasons=np.array([reason for _, reason in embeddings.failed], dtype=str),
        )
    failed = [{"image": key, "reason": reason} for key, reason in embeddings.failed]
    write_json(out / "metrics.json", {**record, "photographs": len(files), "embedded": count, "failures": failed})
    click.echo(f"wrote {path} and {out / 'metrics.json'}")


def _report_verdict(
    files: tuple[Path, ...],
    embeddings: "Embeddings",
    metric: str,
    threshold: float,
    record: dict[str, Any],
    out: Path | None,
) -> None:
    from tfface.cli._output import print_table
    from tfface.errors import ImageError
    from tfface.metrics.distances import cosine_distance, from_cosine
    from tfface.utils.files import write_json

    for name, reason in embeddings.failed:
        raise ImageError(f"{name}: {reason}")
    vectors = embeddings.vectors
    distance = float(from_cosine(cosine_distance(vectors[:1], vectors[1:])[0], metric))
    same = distance <= threshold
    print_table(
        ["photographs", "served model", "version", "metric", "distance", "threshold", "verdict"],
        [
            [
                ", ".join(name.name for name in files),
                record["served_model"],
                str(record["served_version"]),
                metric,
                f"{distance:.4f}",
                f"{threshold:.4f}",
                "same person" if same else "different people",
            ]
        ],
    )
    if out:
        verdict = {"metric": metric, "distance": distance, "threshold": threshold, "same": same}
        write_json(out / "metrics.json", {**record, **verdict})
        click.echo(f"wrote {out / 'metrics.json'}")
