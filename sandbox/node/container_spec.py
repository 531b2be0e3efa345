"""Write containerd's base_runtime_spec: its own default, and the host's programs shown read-only in every container.

So an image whose root is almost empty runs the host's Python. The checkout and the environment for models are shown
where images.py says, not at their own paths: a pod that mounts a volume at /tmp would hide a checkout below /tmp.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from sandbox.node.images import CHECKOUT, ML_ENV

_MOST_OPEN_FILES = 65536


# The host's programs, and the home of this Python: at their own places, because programs name them.
_PROGRAMS = ["/usr", "/etc/ssl", "/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime", sys.base_prefix]


def shown(checkout: Path, ml_env: Path) -> dict[str, Path]:
    """Source by place; nothing below another of the host's programs."""
    places: dict[str, Path] = {}
    for name in _PROGRAMS:
        path = Path(name)
        if path.exists() and not any(path.is_relative_to(other) for other in places):
            places[name] = path.resolve()
    return places | {str(CHECKOUT): checkout.resolve(), str(ML_ENV): ml_env.resolve()}


def container_spec(places: dict[str, Path]) -> dict[str, Any]:
    """The default spec with read-only binds, and as many open files as we may have."""
    spec: dict[str, Any] = json.loads(subprocess.check_output(["ctr", "oci", "spec"]))
    for place, source in places.items():
        options = ["rbind", "rprivate", "ro", "nosuid"]
        spec["mounts"].append({"destination": place, "source": str(source), "type": "bind", "options": options})
    # The default says 1024 open files, and nothing can go above our own hard limit without CAP_SYS_RESOURCE.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = _MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_OPEN_FILES)
    spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "hard": files, "soft": files}]
    return spec


def main() -> None:
    """Write the spec."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--checkout", type=Path, required=True)
    parser.add_argument("--ml-env", type=Path, required=True)
    options = parser.parse_args()
    options.out.write_text(json.dumps(container_spec(shown(options.checkout, options.ml_env)), indent=1))


if __name__ == "__main__":
    main()
