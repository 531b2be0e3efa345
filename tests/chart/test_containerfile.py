"""The Containerfile makes what the sandbox runs, of what is in the checkout, as nobody's root."""

from __future__ import annotations

import re
import shlex
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.core
import typer.main
import yaml

from controller.cli.main import app
from controller.domain.snapshot import JobKind
from controller.reconcile.objects.jobs import job
from controller.reconcile.objects.verify import Verification, verify_container
from sandbox.node.images import images
from tests.builders import A1
from tests.chart.containerfile import parse
from tests.reconcile.test_objects import INPUTS, PATH, seen

ROOT = Path(__file__).resolve().parents[2]
FILE = parse(ROOT / "Containerfile")
IMAGES = ["controller", "job"]
Json = dict[str, Any]
IN_SANDBOX = {image.name.removeprefix("localhost/adapterrelease/").removesuffix(":dev"): image for image in images()}
# This machine has no GPU, and few processors that it shares with a server.
OF_THE_SANDBOX_ALONE = {"PYTHONPATH", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "OMP_WAIT_POLICY"}


def copied(name: str) -> list[str]:
    lines = [shlex.split(line) for stage in FILE.stages.values() if stage.name == name for line in stage.of("COPY")]
    return [source for line in lines if not line[0].startswith("--from") for source in line[:-1]]


def ignored(source: str) -> bool:
    """By the last pattern of .dockerignore that matches, as builders read it."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    verdict = False
    for pattern in patterns:
        if fnmatch(source.split("/")[0], pattern.removeprefix("!")):
            verdict = not pattern.startswith("!")
    return verdict


@pytest.mark.parametrize("image", IMAGES)
def test_it_starts_what_the_sandbox_s_image_starts(image: str) -> None:
    assert FILE.entrypoint(image) == list(IN_SANDBOX[image].entrypoint)


def containers() -> dict[str, list[Json]]:
    """What pods run of each image: the Deployment as it is installed, a job, and what verifies an artifact."""
    documents = yaml.safe_load_all((ROOT / "manifests" / "install.yaml").read_text())
    (operator,) = [d for d in documents if d["kind"] == "Deployment"]
    snapshot = seen()
    assert snapshot.base is not None
    made = job(JobKind.BUILD, INPUTS, snapshot, snapshot.base, "")
    verifier = verify_container(Verification(""), snapshot.base, PATH, A1, None)
    return {
        "controller": operator["spec"]["template"]["spec"]["containers"],
        "job": [*made["spec"]["template"]["spec"]["containers"], verifier],
    }


@pytest.mark.parametrize("image", IMAGES)
def test_what_pods_run_is_its_entry_point_with_a_command_that_it_has(image: str) -> None:
    known = typer.main.get_command(app)
    assert isinstance(known, typer.core.TyperGroup)
    for container in containers()[image]:
        program, command = container["command"]
        assert [program] == FILE.entrypoint(image)
        assert command in known.commands


@pytest.mark.parametrize("image", IMAGES)
def test_the_program_is_the_module_that_the_sandbox_runs(image: str) -> None:
    assert re.search(r"exec \S+ -m controller \"\$@\"", IN_SANDBOX[image].scripts["adapterrelease"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, app = project["scripts"]["adapterrelease"].partition(":")
    assert f"from {module} import {app}\n" in (ROOT / "controller" / "__main__.py").read_text()


@pytest.mark.parametrize("image", IMAGES)
def test_it_runs_as_a_user_who_is_not_root_and_is_known_by_number(image: str) -> None:
    """The kubelet checks runAsNonRoot by the number, and cannot look a name up."""
    assert FILE.last(image, "USER") == "1000:1000"
    assert not any(stage.of("RUN") for stage in FILE.chain(image)), "what runs in the image itself leaves files there"


def test_the_base_is_pinned_by_its_digest_and_a_variable() -> None:
    outside = {stage.base for stage in FILE.stages.values()} - set(FILE.stages)
    assert outside == {FILE.arguments["PYTHON_IMAGE"]}
    assert FILE.chain("controller")[-1].base == FILE.stages["build-controller"].base
    assert re.fullmatch(r"python:3\.11-[a-z-]+@sha256:[0-9a-f]{64}", FILE.arguments["PYTHON_IMAGE"])


def test_what_is_copied_is_there_and_reaches_the_builder() -> None:
    sources = [source for name in FILE.stages for source in copied(name)]
    assert {"controller", "pyproject.toml", *(f"locks/{name}.lock" for name in ("build", *IMAGES))} <= set(sources)
    assert [source for source in sources if not (ROOT / source).exists() or ignored(source)] == []


@pytest.mark.parametrize("image", IMAGES)
def test_what_is_in_it_comes_from_stages_before_it(image: str) -> None:
    seen: list[str] = []
    for name, stage in FILE.stages.items():
        froms = [word.partition("=")[2] for line in stage.of("COPY") for word in line.split() if "--from=" in word]
        assert set(froms) <= set(seen), name
        seen.append(name)
    assert FILE.stages[image].of("COPY") == [f"--from=build-{image} /opt/adapterrelease /opt/adapterrelease"]


@pytest.mark.parametrize("secret", [".venv", ".git", "tests", "sandbox", "kubeconfig"])
def test_nothing_else_reaches_the_builder(secret: str) -> None:
    assert ignored(secret)


@pytest.mark.parametrize("stage", ["wheel", "build-controller", "build-job"])
def test_what_is_installed_is_known_by_its_hash_or_made_here(stage: str) -> None:
    for line in FILE.stages[stage].of("RUN"):
        if "pip" in line.split()[0]:
            lock = f"locks/{stage.replace('wheel', 'build').split('-')[-1]}.lock"
            by_hash = "--require-hashes" in line and lock in line
            assert "--no-deps" in line and (by_hash or "--no-index" in line), line
            assert " install " not in line or "--no-cache-dir" in line, line


def test_a_job_has_the_environment_that_it_has_in_the_sandbox() -> None:
    exports = re.findall(r"^export (.*)$", IN_SANDBOX["job"].scripts["adapterrelease"], re.MULTILINE)
    wanted = dict(part.split("=", 1) for line in exports for part in shlex.split(line))
    wanted = {name: value for name, value in wanted.items() if name not in OF_THE_SANDBOX_ALONE}
    assert wanted
    assert wanted.items() <= FILE.environment("job").items()


@pytest.mark.parametrize("image", IMAGES)
def test_the_program_is_found_and_its_home_can_be_written_to(image: str) -> None:
    environment = FILE.environment(image)
    assert environment["PATH"].split(":")[0] == "/opt/adapterrelease/bin"
    assert environment["HOME"] == "/tmp"


def pinned(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "locks" / lock).read_text(), re.MULTILINE))


@pytest.mark.parametrize(("image", "tested"), [("controller", "dev.lock"), ("job", "ml.lock")])
def test_the_images_have_the_versions_that_the_tests_have(image: str, tested: str) -> None:
    of_image, of_tests = pinned(f"{image}.lock"), pinned(tested)
    common = of_image.keys() & of_tests.keys()
    assert {"controller": "kubernetes", "job": "torch"}[image] in common
    assert {name: of_image[name] for name in common} == {name: of_tests[name] for name in common}


@pytest.mark.parametrize("image", ["build", *IMAGES])
def test_the_lock_names_no_registry_and_has_a_hash_for_each_package(image: str) -> None:
    text = (ROOT / "locks" / f"{image}.lock").read_text()
    assert "://" not in text
    for requirement in re.split(r"\n(?=\S)", text.strip()):
        assert "--hash=sha256:" in requirement, requirement
