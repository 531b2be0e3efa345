"""What of the Helm chart is generated: the CRD as a template, and copies of the rules and dashboards.

A chart reads no file outside of itself. Must not know what its other templates say.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

CHART = Path("charts") / "adapter-release-controller"
# Where files come from, and where the chart has them: rules for Prometheus, dashboards for Grafana.
COPIED = {
    Path("manifests") / "prometheus": (CHART / "files" / "prometheus", "*.yaml"),
    Path("manifests") / "grafana": (CHART / "files" / "dashboards", "*.json"),
}
_METADATA = """\
  labels:
    {{- include "arc.labels" . | nindent 4 }}
  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
spec:
"""


def crd_template(crd: str) -> str:
    """The CRD with the chart's labels, if it is to be installed; kept when the release goes, if it is to be kept."""
    header, separator, rest = crd.replace("{{", '{{ "{{" }}').partition("apiVersion:")
    head, _, body = (separator + rest).partition("spec:\n")
    return f"{header}{{{{- if .Values.crds.install }}}}\n{head}{_METADATA}{body}{{{{- end }}}}\n"


def copies(root: Path) -> dict[Path, str]:
    """Every copy with the text that it should have."""
    return {
        root / target / path.name: path.read_text()
        for source, (target, pattern) in COPIED.items()
        for path in sorted((root / source).glob(pattern))
    }


def left_over(root: Path) -> Iterator[Path]:
    """Copies of what is not there any more."""
    wanted = copies(root)
    for target, pattern in COPIED.values():
        yield from (path for path in sorted((root / target).glob(pattern)) if path not in wanted)
