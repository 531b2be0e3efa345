"""What is generated of the chart: its schema's descriptions and settings, docs/helm.md, manifests/install.yaml.

`make generate` writes all three; `make lint` compares the first two, and tests/chart the third, which needs Helm. The
sandbox's Helm is used if it is built (sandbox/helm/build.sh), or the one on the PATH.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from charts import schema
from charts.values import Value, undocumented, values

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "adapter-release-controller"
NAME = "adapter-release-controller"
NAMESPACE = "adapter-release-system"
HEADER = "# Generated from charts/adapter-release-controller by `make generate`; edit the chart, not this file.\n"
# kubectl deletes what it is told to, and makes no namespace by itself.
PLAIN = ("--set", "namespace.create=true", "--set", "crds.keep=false")
# What would be untrue of objects that no Helm looks after.
_OF_HELM = re.compile(r"^ +(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n", re.MULTILINE)
_TABLE = re.compile(r"(?<=<!-- values -->\n).*?(?=<!-- end of values -->)", re.DOTALL)


def generated_files(root: Path = ROOT) -> dict[Path, str]:
    """What needs no Helm, with the text that it should have."""
    chart = root / CHART.relative_to(ROOT)
    text = (chart / "values.yaml").read_text()
    if missing := undocumented(text):
        raise SystemExit(f"values.yaml: no comment above {', '.join(missing)}")
    known = values(text)
    types, page = chart / "values.schema.json", root / "docs" / "helm.md"
    return {
        types: schema.completed(json.loads(types.read_text()), known),
        page: _TABLE.sub(lambda _: table(known), page.read_text()),
    }


def table(known: list[Value]) -> str:
    lines = ["| value | default | |", "|---|---|---|"]
    for value in known:
        default = "" if value.default is None else f"`{value.default}`"
        description = value.description.replace("|", r"\|")
        lines.append(f"| `{value.name}` | {default} | {description} |")
    return "\n".join(lines) + "\n"


def find_helm() -> str | None:
    """The sandbox's Helm, newest first; where that is not built, the one on the PATH."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    cache = Path(os.environ.get("ADAPTERRELEASE_CACHE", home / "adapter-release-controller"))
    built = [path for path in cache.glob("helm-*/helm") if "." not in path.parent.name]
    newest = max(built, key=lambda path: path.stat().st_mtime, default=None)
    return str(newest) if newest else shutil.which("helm")


def installation(helm: str, chart: Path = CHART) -> str:
    """manifests/install.yaml as it should be."""
    command = [helm, "template", NAME, str(chart), "--namespace", NAMESPACE, "--skip-tests", *PLAIN]
    made = subprocess.run(command, text=True, capture_output=True, check=False)
    if made.returncode:
        raise SystemExit(f"helm template failed: {made.stderr}")
    return HEADER + _OF_HELM.sub("", made.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; 1 if a file is out of date")
    check = parser.parse_args().check
    files = generated_files()
    if not check and (helm := find_helm()):
        files[ROOT / "manifests" / "install.yaml"] = installation(helm)
    elif not check:
        sys.stderr.write("manifests/install.yaml is left as it is: there is no Helm; sandbox/helm/build.sh builds it\n")
    stale = {path: text for path, text in files.items() if path.read_text() != text}
    for path, text in stale.items():
        if not check:
            path.write_text(text)
        what = "is out of date: run `make generate` and commit it" if check else "written"
        sys.stderr.write(f"{path.relative_to(ROOT)} {what}\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
