"""The generated files: up to date, and structural."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from controller.api.chart import CHART, crd_template
from controller.api.crd import ROOT, custom_resource_definition, generated_files, main, release_schema
from controller.api.schema import RULES, structural_schema
from controller.api.types import DURATION_PATTERN, parse_duration

Schema = dict[str, Any]


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from nodes(field, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


def node(path: str) -> Schema:
    return dict(nodes(release_schema()))[path]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of everything that is generated, and of what it is generated from beside the models."""
    for name in ("manifests", "docs", "charts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_generated_files_are_up_to_date() -> None:
    assert main(check=True) == 0


def test_an_edited_file_is_noticed_and_named(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crd = checkout / "manifests" / "crd.yaml"
    crd.write_text(crd.read_text().replace("Experimental", "Alpha"))
    assert main(check=True, root=checkout) == 1
    assert capsys.readouterr().err == "manifests/crd.yaml is out of date: run `make generate` and commit it\n"
    assert main(root=checkout) == 0
    assert main(check=True, root=checkout) == 0


def test_a_missing_file_is_noticed_and_written(checkout: Path) -> None:
    shutil.rmtree(checkout / "docs")
    assert main(check=True, root=checkout) == 1
    assert main(root=checkout) == 0
    assert (checkout / "docs" / "api.md").is_file()


def test_the_text_is_the_definition() -> None:
    text = generated_files()[ROOT / "manifests" / "crd.yaml"]
    assert yaml.safe_load(text) == custom_resource_definition()
    assert "&id" not in text


def test_the_schema_is_structural() -> None:
    for path, schema in nodes(release_schema()):
        assert "type" in schema, path
        assert not {"$ref", "$defs", "anyOf", "allOf", "oneOf", "title", "const"} & schema.keys(), path
        assert schema.get("default", ...) is not None, path


def test_every_field_is_described() -> None:
    undescribed = [
        path
        for path, schema in nodes(release_schema())
        if path.startswith((".spec", ".status")) and not path.endswith("[]") and not schema.get("description")
    ]
    assert undescribed == []


def test_status_has_no_defaults_but_that_nobody_has_looked() -> None:
    status = release_schema()["properties"]["status"]
    assert [path for path, schema in nodes(status) if "default" in schema] == [""]
    assert status["default"] == {"observedGeneration": -1}


def test_every_string_and_list_of_the_spec_is_bounded() -> None:
    """What a rule walks must have a largest size, or the API server refuses the rule as too dear."""
    for path, schema in nodes(release_schema()["properties"]["spec"], "spec"):
        if schema["type"] == "string" and "enum" not in schema:
            assert "maxLength" in schema, path
        if schema["type"] == "array":
            assert "maxItems" in schema, path


def test_defaults_of_an_object_are_those_of_its_fields() -> None:
    observe = node(".spec.rollout.observe")
    assert observe["default"]["duration"] == observe["properties"]["duration"]["default"] == "10m"
    assert node(".spec.rollout")["default"]["observe"] == observe["default"]
    assert "default" not in node(".spec.build")


def test_a_duration_keeps_its_pattern() -> None:
    assert node(".spec.build.deadline")["pattern"] == DURATION_PATTERN


def test_rules_of_a_field_and_of_its_type_are_both_kept() -> None:
    messages = [rule["message"] for rule in node(".spec.adapters[].source.uri")[RULES]]
    assert len(messages) == 3
    assert all(rule["message"] for path, schema in nodes(release_schema()) for rule in schema.get(RULES, []))


def test_the_pod_template_is_kept_whole() -> None:
    template = node(".spec.build.podTemplate")
    assert template["type"] == "object"
    assert template["x-kubernetes-preserve-unknown-fields"] is True
    assert "additionalProperties" not in template


def test_a_union_is_refused_by_name() -> None:
    class Unclear(BaseModel):
        size: int | str

    with pytest.raises(TypeError, match=r"Unclear\.size: a structural schema has no unions"):
        structural_schema(Unclear)


def test_the_reference_names_every_field_and_every_rule() -> None:
    (text,) = [text for path, text in generated_files().items() if path.name == "api.md"]
    for path, schema in nodes(release_schema()):
        if path.startswith((".spec.", ".status.")) and not path.endswith("[]"):
            assert f"`{path.rpartition('.')[2]}`" in text, path
        for rule in schema.get(RULES, []):
            assert rule["message"] in text


@given(st.integers(0, 999999), st.integers(0, 999999), st.integers(0, 999999))
def test_a_duration_is_the_sum_of_its_parts(hours: int, minutes: int, seconds: int) -> None:
    expected = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == expected


@pytest.mark.parametrize("text", ["", "s", "1", "1.5h", "-1s", "1s1m", "1h 5m", "9999999h", "1d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_the_installation_has_the_crd_of_the_models(checkout: Path) -> None:
    """tests/chart says that all of it is the chart, which needs Helm."""
    installed = yaml.safe_load_all((checkout / "manifests" / "install.yaml").read_text())
    (crd,) = [document for document in installed if document["kind"] == "CustomResourceDefinition"]
    assert crd["spec"] == custom_resource_definition()["spec"]


def test_the_chart_s_copies_of_rules_and_dashboards_are_made_and_removed(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = checkout / "manifests" / "prometheus" / "new.yaml"
    copy = checkout / CHART / "files" / "prometheus" / "new.yaml"
    source.parent.mkdir(exist_ok=True)
    source.write_text("groups: []\n")
    assert main(check=True, root=checkout) == 1
    assert main(root=checkout) == 0
    assert copy.read_text() == "groups: []\n"
    source.unlink()
    assert main(check=True, root=checkout) == 1
    assert "files/prometheus/new.yaml is a copy of nothing" in capsys.readouterr().err
    assert main(root=checkout) == 0
    assert not copy.exists()


def test_braces_in_the_crd_are_no_template() -> None:
    assert '{{ "{{" }}.x}}' in crd_template("# h\napiVersion: v1\nspec:\n  a: '{{.x}}'\n")
