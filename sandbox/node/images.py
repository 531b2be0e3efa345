"""The images of the sandbox: the names that real manifests use, and what they run on this machine.

A manifest says `adapterrelease operator` or `vllm serve MODEL`, as it would anywhere; the script of that name in
the image knows where this machine keeps the program, and what a build of vLLM for CPUs needs besides.
"""

import argparse
import sys
from pathlib import Path

from sandbox.node.oci import Image, write_archive

BIN_DIR = "/opt/adapterrelease/bin"
# Where containers see this machine's checkout and its environment for models; container_spec.py puts them there.
CHECKOUT = Path("/opt/adapterrelease/checkout")
ML_ENV = Path("/opt/adapterrelease/ml")
# Where the pod of the gateway mounts what sandbox/gateway/build.sh has made: other pods are not shown it.
GATEWAY = Path("/opt/adapterrelease/gateway")


def images(checkout: Path = CHECKOUT, ml_env: Path = ML_ENV) -> list[Image]:
    """Every image that pods in the sandbox can name."""
    return [
        Image("local/pause:1"),
        Image("local/app:1"),
        Image(
            "localhost/adapterrelease/controller:dev",
            entrypoint=("adapterrelease",),
            scripts={"adapterrelease": _controller(checkout, checkout / ".venv/bin/python")},
        ),
        Image(
            "localhost/adapterrelease/job:dev",
            entrypoint=("adapterrelease",),
            scripts={"adapterrelease": _job(checkout, ml_env / "bin/python")},
        ),
        Image(
            "vllm/vllm-openai:sandbox",
            entrypoint=("vllm", "serve"),
            scripts={"vllm": _vllm(checkout, ml_env)},
        ),
        Image(
            "library/traefik:sandbox",
            entrypoint=("traefik",),
            scripts={"traefik": f'#!/bin/sh\nexec {GATEWAY}/traefik "$@"\n'},
        ),
    ]


def _controller(checkout: Path, python: Path) -> str:
    return f"""#!/bin/sh
export PYTHONPATH={checkout}${{PYTHONPATH:+:$PYTHONPATH}}
exec {python} -m controller "$@"
"""


def _job(checkout: Path, python: Path) -> str:
    # OMP_WAIT_POLICY: busy waiting on two cores makes everything three times slower.
    return f"""#!/bin/sh
export PYTHONPATH={checkout}${{PYTHONPATH:+:$PYTHONPATH}}
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 TOKENIZERS_PARALLELISM=false CUDA_VISIBLE_DEVICES=
export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-2}} OMP_WAIT_POLICY=passive
exec {python} -m controller "$@"
"""


def _vllm(checkout: Path, ml_env: Path) -> str:
    # The `vllm` command of the CPU build lacks its metadata, so the server's module is started instead.
    return f"""#!/bin/sh
if [ "$1" != serve ]; then echo "this image knows only: vllm serve MODEL FLAGS" >&2; exit 2; fi
shift
case ${{1:-}} in -* | '') ;; *) set -- --model "$@" ;; esac
export PYTHONPATH={checkout}/sandbox/vllm${{PYTHONPATH:+:$PYTHONPATH}}
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
export VLLM_CACHE_ROOT=${{VLLM_CACHE_ROOT:-{ml_env}/vllm-cache}}
export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-1}} OMP_WAIT_POLICY=passive VLLM_CPU_OMP_THREADS_BIND=nobind
exec {ml_env}/bin/python -m vllm.entrypoints.openai.api_server "$@"
"""


def main() -> None:
    """Write the archive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pause", type=Path, required=True)
    options = parser.parse_args()
    path = f"{BIN_DIR}:{sys.base_prefix}/bin:/usr/local/bin:/usr/bin:/usr/sbin:/bin"
    write_archive(options.out, images(), options.pause.read_bytes(), BIN_DIR, path)


if __name__ == "__main__":
    main()
