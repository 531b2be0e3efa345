"""Models -> the CRD, its template in the chart, the reference in docs/. CI fails when a file is out of date.

Must not know: how a cluster is reached, nor Helm; manifests/install.yaml is made of the chart by charts/generate.py.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from controller.api.chart import CHART, copies, crd_template, left_over
from controller.api.explanations import reasons_reference
from controller.api.reference import api_reference
from controller.api.schema import RULES, Schema, structural_schema
from controller.api.status import AdapterReleaseStatus
from controller.api.types import rule
from controller.api.v1alpha1 import GROUP, KIND, PLURAL, VERSION, AdapterRelease, AdapterReleaseSpec

# Derived names (a Job's, a Deployment's) add up to 23 characters and must fit into a 63-character label.
MAX_NAME_LENGTH = 40
HEADER = "# Generated from controller/api by `make generate`; edit the models there, not this file.\n"
ROOT = Path(__file__).resolve().parents[2]

_PRINTER_COLUMNS: list[dict[str, Any]] = [
    {"name": "Stage", "type": "string", "jsonPath": ".spec.stage"},
    {"name": "Serving", "type": "string", "jsonPath": ".status.serving.backend.kind"},
    {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
    {"name": "Artifact", "type": "string", "jsonPath": ".status.artifact.name"},
    {"name": "Speedup", "type": "string", "jsonPath": ".status.artifact.speedup"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    {"name": "Step", "type": "string", "priority": 1, "jsonPath": ".status.rollout.step"},
    {
        "name": "Reason",
        "type": "string",
        "priority": 1,
        "jsonPath": '.status.conditions[?(@.type=="Ready")].reason',
    },
    {
        "name": "Message",
        "type": "string",
        "priority": 1,
        "jsonPath": '.status.conditions[?(@.type=="Ready")].message',
    },
]


def release_schema() -> Schema:
    """The whole object's schema. Fields of the status have no defaults: what the controller did not write is absent."""
    spec = structural_schema(AdapterReleaseSpec)
    # A release that no controller has seen is not done: without a status kstatus takes an object for finished.
    status = structural_schema(AdapterReleaseStatus, defaults=False) | {"default": {"observedGeneration": -1}}
    return {
        "description": AdapterRelease.__doc__,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}"},
            "kind": {"type": "string", "description": KIND},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
        RULES: [
            rule(
                f"self.metadata.name.size() <= {MAX_NAME_LENGTH}",
                f"metadata.name must have at most {MAX_NAME_LENGTH} characters: other names are made of it",
            ),
            rule(
                "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "metadata.name must begin with a letter and have no dot: the route is a Service of this name",
            ),
        ],
    }


def custom_resource_definition() -> dict[str, Any]:
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": _PRINTER_COLUMNS,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": release_schema()},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["ar"],
                "categories": ["all", "vllm"],
            },
            "versions": [version],
        },
    }


def generated_files(root: Path = ROOT) -> dict[Path, str]:
    """Every generated file with the text that it should have."""
    crd = HEADER + yaml.dump(custom_resource_definition(), Dumper=_Dumper, sort_keys=False, width=110)
    return {
        root / "manifests" / "crd.yaml": crd,
        root / CHART / "templates" / "crd.yaml": crd_template(crd),
        root / "docs" / "api.md": api_reference(release_schema(), f"{GROUP}/{VERSION}"),
        root / "docs" / "reasons.md": reasons_reference(),
        **copies(root),
    }


def main(check: bool = False, root: Path = ROOT, more: Mapping[str, str] | None = None) -> int:
    """Writes the generated files; with `check` only says which are out of date, and returns 1 if any is.

    `more`: what others generate, by its path in the project.
    """
    gone = list(left_over(root))
    for path in gone:
        if check:
            sys.stderr.write(f"{path.relative_to(root)} is a copy of nothing: run `make generate` and commit that\n")
        else:
            path.unlink()
    wanted = generated_files(root) | {root / name: text for name, text in (more or {}).items()}
    stale = [(path, text) for path, text in wanted.items() if not path.is_file() or path.read_text() != text]
    for path, text in stale:
        name = path.relative_to(root)
        if check:
            sys.stderr.write(f"{name} is out of date: run `make generate` and commit it\n")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            sys.stderr.write(f"{name} written\n")
    return 1 if check and (stale or gone) else 0


class _Dumper(yaml.SafeDumper):
    """Without anchors: a CRD is read by people."""

    def ignore_aliases(self, data: object) -> bool:
        return True
