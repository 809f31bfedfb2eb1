import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tfface.artifacts.making import Order
from tfface.preprocessing.images import recipe

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = (DEPLOY / "docker-compose.yml").read_text()
# Fields of BatchingParameters (session_bundle_config.proto of TensorFlow Serving) that are written `{ value: }`.
BATCHING = {
    "max_batch_size",
    "batch_timeout_micros",
    "max_enqueued_batches",
    "num_batch_threads",
    "thread_pool_name",
    "enable_large_batch_splitting",
    "max_execution_batch_size",
}


@pytest.fixture(scope="module")
def config() -> model_server_config_pb2.ModelConfig:
    text = (DEPLOY / "models.config").read_text()
    (found,) = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    return found


def test_the_model_is_served_under_the_name_of_its_export(config, tiny_embedder):
    import dataclasses

    preset = dataclasses.replace(tiny_embedder.preset, name="facenet/msceleb")
    order = Order(dataclasses.replace(tiny_embedder, preset=preset), recipe("whole"), "savedmodel", "none")
    assert config.name == order.name
    # The export's folder is mounted on /models.
    assert re.search(r"- \S+:/models:ro$", COMPOSE, re.MULTILINE)
    assert Path(config.base_path) == order.path(Path("/models")).parent
    assert config.model_platform == "tensorflow"
    assert config.model_version_policy.latest.num_versions == 1


def test_batching_parameters():
    lines = (DEPLOY / "batching_parameters.txt").read_text().splitlines()
    found = {}
    for line in lines:
        if line and not line.startswith("#"):
            name, value = re.fullmatch(r"(\w+) \{ value: (\d+) \}", line).groups()
            found[name] = int(value)
    assert set(found) <= BATCHING
    assert found["max_batch_size"] >= 16, "the client's --batch"
    assert 0 < found["batch_timeout_micros"] <= 50_000


def test_what_the_server_is_told():
    mounted = dict(re.findall(r"- \./(\S+):(/config/\S+):ro", COMPOSE))
    for path in re.findall(r"--\w+_file=(\S+)", COMPOSE):
        assert (DEPLOY / {inside: outside for outside, inside in mounted.items()}[path]).is_file()
    for flag in ("--enable_batching=true", "--enable_model_warmup=true"):
        assert flag in COMPOSE
    for port in (8500, 8501):
        assert f"127.0.0.1:{port}:{port}" in COMPOSE


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_the_health_check(config, server, monkeypatch):
    command = re.search(r"- >-\n(.*?)\n +interval", COMPOSE, re.DOTALL)[1]
    command = command.replace("/dev/tcp/127.0.0.1/8501", f"/dev/tcp/{server.rest.replace(':', '/')}")
    monkeypatch.setattr(server, "name", config.name)

    def healthy() -> bool:
        return subprocess.run(["bash", "-c", " ".join(command.split("\n"))], timeout=20).returncode == 0

    assert healthy()
    monkeypatch.setattr(server, "states", {1: "LOADING"})
    assert not healthy()
    monkeypatch.setattr(server, "name", "other")
    assert not healthy()


@pytest.mark.slow
def test_saved_model_cli_shows_what_it_takes(artifact):
    tool = Path(sys.executable).with_name("saved_model_cli")
    if not tool.exists():
        pytest.skip("TensorFlow came without saved_model_cli")
    done = subprocess.run([tool, "show", "--dir", artifact.path, "--all"], capture_output=True, text=True, check=True)
    for name in ("serving_default", "embed_jpeg", "embed_jpeg_boxes", "verify"):
        assert f"signature_def['{name}']" in done.stdout
    part = done.stdout.split("signature_def['embed_jpeg']")[1].split("signature_def")[0]
    assert "inputs['file'] tensor_info" in part and "dtype: DT_STRING" in part
    assert "outputs['embedding'] tensor_info" in part and "outputs['valid'] tensor_info" in part
