"""The files of the container: what they run is what the command takes, and the image is built where docker is."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cost_hf.serving.access import ITEMS_TOKEN, OPEN_PATHS, TOKEN
from cost_hf.serving.app import PATHS
from cost_hf.serving.serve_command import serve_parser
from cost_hf.yaml_text import read_yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")


def compose() -> dict:
    return read_yaml((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))


def instruction(name: str) -> list[str]:
    """Return the arguments of the last instruction of a name, in its JSON form."""
    return json.loads(re.findall(rf"^{name} (\[.*\])$", DOCKERFILE, re.MULTILINE)[-1])


def parsed(arguments: list[str], tmp_path: Path):
    """Parse arguments of `cost-hf serve`, with a directory in place of the volume."""
    return serve_parser().parse_args([str(tmp_path) if part == "/model" else part for part in arguments])


def test_image_and_compose_run_the_command_with_arguments_that_it_takes(tmp_path):
    assert instruction("ENTRYPOINT") == ["cost-hf", "serve"]
    service = compose()["services"]["recommender"]
    for arguments in (instruction("CMD"), service["command"]):
        known = parsed(arguments, tmp_path)
        assert (known.host, known.port, known.source) == ("0.0.0.0", 8000, str(tmp_path))
    grace = int(service["stop_grace_period"].removesuffix("s"))
    assert grace > known.drain + known.timeout
    assert f"EXPOSE {known.port}" in DOCKERFILE and "VOLUME /model" in DOCKERFILE
    assert {port.rpartition(":")[2] for port in service["ports"]} == {str(known.port)}


def test_the_health_check_asks_a_path_that_needs_no_token():
    (address,) = re.findall(r"http://127\.0\.0\.1:8000(/\w+)", DOCKERFILE.partition("HEALTHCHECK")[2])

    assert address in PATHS & OPEN_PATHS


def test_the_process_is_no_root_and_tokens_come_from_outside():
    stages = DOCKERFILE.split("\nFROM ")
    assert re.search(r"^USER (\d+)$", stages[-1], re.MULTILINE)[1] != "0"
    assert compose()["services"]["recommender"]["environment"] == {
        TOKEN: f"${{{TOKEN}:-}}",
        ITEMS_TOKEN: f"${{{ITEMS_TOKEN}:-}}",
    }


def test_what_is_copied_into_the_image_is_there_and_not_ignored():
    ignored = (ROOT / "docker" / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    sources = [
        name for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE) for name in line.split()[:-1]
    ]

    assert "pyproject.toml" in sources and "*" in ignored
    for name in sources:
        assert (ROOT / name).exists() and f"!{name}" in ignored


def test_prometheus_reads_the_metrics_of_the_service():
    (job,) = read_yaml((ROOT / "docker" / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]

    assert job["metrics_path"] in PATHS
    (target,) = job["static_configs"][0]["targets"]
    assert target.partition(":")[0] in compose()["services"]


@pytest.mark.slow
def test_the_image_is_built_and_runs_as_its_user():
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "info"], capture_output=True).returncode != 0:
        pytest.skip("no docker, or its daemon does not run")
    build = [docker, "build", "--file", "docker/Dockerfile", "--tag", "cost-hf-test", "."]
    subprocess.run(build, cwd=ROOT, check=True)
    run = [docker, "run", "--rm", "--read-only", "--tmpfs", "/tmp"]

    helped = subprocess.run([*run, "cost-hf-test", "--help"], capture_output=True, text=True, check=True)
    user = subprocess.run(
        [*run, "--entrypoint", "id", "cost-hf-test", "-u"], capture_output=True, text=True, check=True
    )

    assert "--max-batch" in helped.stdout and user.stdout.strip() != "0"
