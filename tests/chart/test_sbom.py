"""The bills of materials name every package of the locks, with its hashes, and are the same for the same locks."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.chart.rendering import ROOT

pytestmark = pytest.mark.slow

Json = dict[str, Any]


def command(image: str, out: Path) -> list[str]:
    """As `make sbom` has it."""
    made = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "--assume-old=.venv/complete", "sbom"],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
    ).stdout
    found = re.search(r"\S+/cyclonedx-py .*", made.replace("\\\n", " "))
    assert found
    words = found[0].replace("$image", image).rstrip("; ").split()
    return [*words[: words.index("--output-file")], "--output-file", str(out)]


@pytest.mark.parametrize("image", ["controller", "job"])
def test_it_names_every_package_of_the_lock(image: str, tmp_path: Path) -> None:
    subprocess.run(command(image, tmp_path / "sbom.json"), cwd=ROOT, check=True, capture_output=True)
    sbom = json.loads((tmp_path / "sbom.json").read_text())
    lock = (ROOT / "locks" / f"{image}.lock").read_text()
    pinned = re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s;\\]+)", lock, re.MULTILINE)
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    assert sbom["metadata"]["component"]["name"] == "adapter-release-controller"
    components = {(c["name"], c["version"]): c for c in sbom["components"]}
    assert set(components) == set(pinned) and len(pinned) > 10
    for (name, version), component in components.items():
        assert component["purl"].startswith(f"pkg:pypi/{name}@{version}")
        assert {h["alg"] for r in component["externalReferences"] for h in r.get("hashes", ())} == {"SHA-256"}


def test_the_same_locks_give_the_same_bill(tmp_path: Path) -> None:
    for name in ("a", "b"):
        subprocess.run(command("controller", tmp_path / name), cwd=ROOT, check=True, capture_output=True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
