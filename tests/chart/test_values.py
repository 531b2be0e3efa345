"""Every value is documented, has a type, and is used; every setting of the program can be set."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts import generate
from charts.schema import ELSEWHERE, camel, settings_properties
from charts.values import undocumented, values
from controller import __version__
from controller.reconcile.objects.pod_template import JOB_CONTAINER, POD_FIELDS
from controller.settings import Settings
from tests.chart.rendering import CHART

TEXT = (CHART / "values.yaml").read_text()
TREE = yaml.safe_load(TEXT)
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
KNOWN = values(TEXT)

SMALL = """\
# Said of no value.

# What it is,
# in two lines.
a: 1
# A group.
b:
  # One of it.
  c: {x: 1}
  d: []
e:
  f: true
"""


def test_a_value_has_the_comment_above_it() -> None:
    found = {value.name: (value.description, value.default) for value in values(SMALL)}
    assert found == {
        "a": ("What it is, in two lines.", "1"),
        "b": ("A group.", None),
        "b.c": ("One of it.", '{"x": 1}'),
    }


def test_a_value_without_a_comment_is_named() -> None:
    assert undocumented(SMALL) == ["b.d", "e.f"]
    assert undocumented(TEXT) == []


def test_what_is_generated_is_up_to_date() -> None:
    stale = [str(path) for path, text in generate.generated_files().items() if path.read_text() != text]
    assert stale == [], "run `make generate`"


def test_a_changed_comment_changes_schema_and_page(tmp_path: Path) -> None:
    chart = tmp_path / CHART.relative_to(generate.ROOT)
    (tmp_path / "docs").mkdir()
    chart.mkdir(parents=True)
    for path in (chart / "values.yaml", chart / "values.schema.json", tmp_path / "docs" / "helm.md"):
        path.write_text((generate.ROOT / path.relative_to(tmp_path)).read_text())
    (chart / "values.yaml").write_text(TEXT.replace("# Priority class of the pods.", "# A new | text."))
    for path, text in generate.generated_files(tmp_path).items():
        assert ("A new \\| text." if path.suffix == ".md" else "A new | text.") in text


def test_the_schema_knows_what_values_yaml_has_and_nothing_else() -> None:
    def differences(tree: Any, schema: dict[str, Any], path: str = "") -> list[str]:
        if "properties" not in schema or not tree:  # what may be in what is empty by default, the schema alone says
            return []
        known = schema["properties"].keys() - {"global"}
        found = [f"{path}/{key}" for key in known ^ tree.keys()]
        return found + [d for key in known & tree.keys() for d in differences(tree[key], known_of(schema, key), key)]

    def known_of(schema: dict[str, Any], key: str) -> dict[str, Any]:
        found: dict[str, Any] = schema["properties"][key]
        return {} if key == "settings" else found

    assert differences(TREE, SCHEMA) == []


def test_nothing_that_has_a_list_of_names_takes_another_one() -> None:
    def open_ones(schema: Any) -> list[Any]:
        if isinstance(schema, list):
            return [found for part in schema for found in open_ones(part)]
        if not isinstance(schema, dict):
            return []
        here = [schema] if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema else []
        return here + [found for part in schema.values() for found in open_ones(part)]

    # What Kubernetes has lists of, and checks itself: variables (of the controller and of jobs), volumes and mounts.
    assert [node["required"][0] for node in open_ones(SCHEMA)] == ["name"] * 4


def test_every_setting_of_the_program_is_a_value() -> None:
    settable = {name for name in Settings.model_fields if camel(name) in SCHEMA["properties"]["settings"]["properties"]}
    assert settable | ELSEWHERE.keys() == Settings.model_fields.keys()
    assert settable & ELSEWHERE.keys() == set()
    assert set(ELSEWHERE.values()) <= {value.name for value in KNOWN}
    assert all("description" in field for field in settings_properties().values())


def test_a_job_may_be_given_what_the_controller_takes_over_and_nothing_else() -> None:
    of_pods = SCHEMA["properties"]["jobs"]["properties"]["podTemplate"]["properties"]["spec"]["properties"]
    assert of_pods.keys() == {*POD_FIELDS, "containers"}
    assert of_pods["containers"]["items"]["properties"]["name"]["const"] == JOB_CONTAINER


def test_every_value_is_used_by_a_template() -> None:
    templates = "\n".join(path.read_text() for path in (CHART / "templates").rglob("*") if path.is_file())
    unused = [v.name for v in KNOWN if v.default is not None and not _is_used(templates, v.name)]
    assert unused == []


def _is_used(templates: str, name: str) -> bool:
    """By its whole path, or by the end of it inside of a `with` of the beginning."""
    if re.search(rf"\.Values\.{re.escape(name)}\b", templates):
        return True
    group, _, last = name.rpartition(".")
    return bool(group and re.search(rf"\.Values\.{re.escape(group)}\b", templates)) and bool(
        re.search(rf"[.$\w]*\.{re.escape(last)}\b", templates)
    )


@pytest.mark.parametrize("name", ["README.md", "Chart.yaml", "values.schema.json", ".helmignore"])
def test_the_chart_has_what_a_chart_has(name: str) -> None:
    assert (CHART / name).stat().st_size


def test_the_chart_has_the_version_of_the_program() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["version"] == __version__


def test_values_are_named_as_helm_s_users_expect() -> None:
    assert [v.name for v in KNOWN if not re.fullmatch(r"([a-z][A-Za-z]*\.?)+", v.name)] == []
