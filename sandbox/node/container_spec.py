"""Write containerd's base_runtime_spec: its own default, and the host's programs shown read-only in every container.

    python -m sandbox.node.container_spec OUT DIRECTORY...

So an image whose root is almost empty runs the host's Python. Each DIRECTORY (an environment, the checkout) is
shown at its own place.
"""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

_MOST_OPEN_FILES = 65536


def host_directories(named: list[str]) -> list[Path]:
    """What to show: the host's programs, this Python's home, and `named`; nothing below another of them."""
    shown: list[Path] = []
    for name in [
        "/usr",
        "/etc/ssl",
        "/etc/alternatives",
        "/etc/ld.so.cache",
        "/etc/localtime",
        sys.base_prefix,
        *named,
    ]:
        path = Path(name)
        if path.exists() and not any(path.is_relative_to(other) for other in shown):
            shown.append(path)
    return shown


def container_spec(directories: list[Path]) -> dict[str, Any]:
    """The default spec with read-only binds of `directories` and as many open files as we may have."""
    spec: dict[str, Any] = json.loads(subprocess.check_output(["ctr", "oci", "spec"]))
    for path in directories:
        options = ["rbind", "rprivate", "ro", "nosuid"]
        spec["mounts"].append(
            {"destination": str(path), "source": str(path.resolve()), "type": "bind", "options": options}
        )
    # The default says 1024 open files, and nothing can go above our own hard limit without CAP_SYS_RESOURCE.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = _MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_OPEN_FILES)
    spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "hard": files, "soft": files}]
    return spec


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(container_spec(host_directories(sys.argv[2:])), indent=1))
