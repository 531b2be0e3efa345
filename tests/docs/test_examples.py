"""What a page tells people to type works: manifests, make targets, options, patches."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.api.crd import release_schema
from controller.api.v1alpha1 import AdapterRelease
from tests.api.kubectl import Kubectl
from tests.docs.pages import PAGES, ROOT, blocks, commands, place

README = ROOT / "README.md"


def manifests(page: Path) -> Iterator[dict[str, Any]]:
    for block in blocks(page):
        if block.language == "yaml":
            yield from yaml.safe_load_all(block.text)


SPEC = release_schema()["properties"]["spec"]["properties"]
RELEASES = [(page, m) for page in PAGES for m in manifests(page) if m.get("kind") == "AdapterRelease"]
# Without what a whole release has: `rollout: ...`, `build: ...`.
PARTS = [(page, m) for page in PAGES for m in manifests(page) if "kind" not in m and m.keys() <= SPEC.keys()]
COMMANDS = [(page, command) for page in PAGES for command in commands(page)]


def unknown_fields(schema: dict[str, Any], value: Any, path: str = "") -> Iterator[str]:
    """Fields of `value` that the CRD does not have: the API server would drop them."""
    if isinstance(value, list):
        for item in value:
            yield from unknown_fields(schema.get("items", {}), item, path + "[]")
    elif isinstance(value, dict) and "properties" in schema:
        for name, inner in value.items():
            if name not in schema["properties"]:
                yield f"{path}.{name}"
            else:
                yield from unknown_fields(schema["properties"][name], inner, f"{path}.{name}")


def test_the_readme_has_a_release() -> None:
    assert [page for page, _ in RELEASES].count(README) == 1


@pytest.mark.parametrize(("page", "manifest"), RELEASES, ids=lambda x: place(x) if isinstance(x, Path) else "")
def test_releases_have_only_known_fields_and_good_values(page: Path, manifest: dict[str, Any]) -> None:
    AdapterRelease.model_validate(manifest)
    assert list(unknown_fields(release_schema(), manifest)) == []


@pytest.mark.parametrize(("page", "part"), PARTS, ids=lambda x: place(x) if isinstance(x, Path) else "")
def test_parts_of_a_release_have_only_known_fields_and_good_values(page: Path, part: dict[str, Any]) -> None:
    [(_, whole)] = [(page, m) for page, m in RELEASES if page == README]
    manifest = {**whole, "spec": {**whole["spec"], **part}}
    AdapterRelease.model_validate(manifest)
    assert list(unknown_fields(release_schema(), manifest)) == []


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target for page in PAGES for target in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    assert named
    assert named - targets == set()


def test_patches_are_json_and_name_fields_of_the_spec() -> None:
    ours = [command for _, command in COMMANDS if " secret " not in command]
    patches = [json.loads(p) for command in ours for p in re.findall(r"-p '([^']*)'", command)]
    assert patches
    for patch in patches:
        if isinstance(patch, dict):
            assert list(unknown_fields(release_schema(), patch)) == []
        else:
            assert [
                step["path"].split("/")[2] in release_schema()["properties"]["spec"]["properties"] for step in patch
            ]


def test_files_that_commands_apply_exist() -> None:
    files = [f for _, command in COMMANDS for f in re.findall(r"-f (manifests/\S+)", command)]
    assert files
    assert [f for f in files if not (ROOT / f).exists()] == []


@pytest.mark.apiserver
def test_the_readme_s_commands_work_on_a_real_api_server(kubectl: Kubectl) -> None:
    [(_, manifest)] = [(page, m) for page, m in RELEASES if page == README]
    kubectl("apply", "--validate=strict", "-f", "-", manifest=manifest)
    patches = [c for page, c in COMMANDS if page == README and " patch " in c]
    assert len(patches) == 2
    for command, stage in zip(patches, ("Stable", "Experimental"), strict=True):
        kubectl(*shlex.split(command)[1:])
        assert kubectl.get("support-bot")["spec"]["stage"] == stage


@pytest.mark.apiserver
def test_the_rollback_commands_work_on_a_real_api_server(kubectl: Kubectl) -> None:
    [(_, manifest)] = [(page, m) for page, m in RELEASES if page == README]
    kubectl("apply", "-f", "-", manifest=manifest)
    steps = [c for page, c in COMMANDS if page.name == "operating.md" and "rollback" in c and " patch " in c]
    assert len(steps) == 2
    kubectl(*shlex.split(steps[0])[1:])
    assert kubectl.get("support-bot")["spec"]["rollback"] == {"revision": 1}
    kubectl(*shlex.split(steps[1])[1:])
    assert "rollback" not in kubectl.get("support-bot")["spec"]
