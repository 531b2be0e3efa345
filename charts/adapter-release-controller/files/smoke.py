"""What `helm test` runs in a pod: the controller is ready, and the API server serves its resource.

Standard library only, and no right in the cluster: every account may ask what the API server serves.
"""

import json
import os
import ssl
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
GROUP_VERSION = "adapterrelease.dev/v1alpha1"
PATIENCE = 60.0


def ready() -> str:
    """What /readyz says is wrong, or nothing."""
    with urllib.request.urlopen(os.environ["CONTROLLER"] + "/readyz?verbose", timeout=5) as answer:
        return "" if answer.status == 200 else answer.read().decode()


def served() -> str:
    """What of the CRD is not served, or nothing."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT_HTTPS"]
    url = f"https://{'[' + host + ']' if ':' in host else host}:{port}/apis/{GROUP_VERSION}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"})
    context = ssl.create_default_context(cafile=ACCOUNT / "ca.crt")
    with urllib.request.urlopen(request, timeout=5, context=context) as answer:
        names = {resource["name"] for resource in json.load(answer)["resources"]}
    missing = {"adapterreleases", "adapterreleases/status"} - names
    return f"the API server does not serve {', '.join(sorted(missing))} of {GROUP_VERSION}" if missing else ""


def main() -> int:
    deadline = time.monotonic() + PATIENCE
    for name, check in (("the controller is ready", ready), (f"{GROUP_VERSION} is served", served)):
        while problem := _ask(check):
            if time.monotonic() > deadline:
                sys.stderr.write(f"not so: {name}: {problem}\n")
                return 1
            time.sleep(1)
        sys.stdout.write(f"{name}\n")
    return 0


def _ask(check: Callable[[], str]) -> str:
    try:
        return check()
    except OSError as error:  # HTTP errors, refused connections and timeouts are all of this type
        return str(error)


if __name__ == "__main__":
    sys.exit(main())
