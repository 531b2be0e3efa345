"""Deployments of vLLM as people write them."""

from __future__ import annotations

import copy
from typing import Any

from controller.reconcile.objects.engine import Plugin

Json = dict[str, Any]

PLUGIN = Plugin({"__init__.py": "class Middleware: ...\n", "state.py": "HELD = {}\n"}, "0123456789ab")
STORE = {"name": "store", "persistentVolumeClaim": {"claimName": "store", "readOnly": True}}
STORE_MOUNT = {"name": "store", "mountPath": "/store", "readOnly": True}
UPDATING = {"name": "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "value": "True"}


def container(**fields: Any) -> Json:
    """The sandbox's: python -m, every flag that matters, store mounted read-only."""
    made = {
        "name": "vllm",
        "image": "vllm/vllm-openai:sandbox",
        "command": ["vllm", "serve", "/store/models/base"],
        "args": ["--served-model-name", "tiny-llama", "--enable-lora", "--max-loras", "4", "--max-cpu-loras", "8"],
        "env": [UPDATING],
        "ports": [{"containerPort": 8000}],
        "volumeMounts": [STORE_MOUNT],
    }
    return made | fields


def deployment(*containers: Json, annotations: Json | None = None, replicas: int | None = 2, **pod: Any) -> Json:
    spec = {"containers": list(containers) or [container()], "volumes": [STORE]} | pod
    made = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "tiny-llama", "namespace": "llm", "uid": "uid-base", "annotations": annotations or {}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "tiny-llama"}},
            "template": {"metadata": {"labels": {"app": "tiny-llama", "team": "ml"}}, "spec": spec},
        },
    }
    return copy.deepcopy(made)


# Nothing in it says that it is vLLM.
UNKNOWN: Json = {"name": "engine", "image": "registry.example/llm:1", "command": ["/start.sh"], "args": []}
SHELL_FORM = container(
    command=["/bin/sh", "-c"],
    args=[
        "set -e\n"
        "# the model is on the store\n"
        'export VLLM_ALLOW_RUNTIME_LORA_UPDATING="True"\n'
        'OMP_NUM_THREADS=1 vllm serve "$MODEL" \\\n'
        "  --served-model-name 'tiny llama' --port ${PORT:-9000} --enable-lora --max-loras=2 \\\n"
        "  --lora-modules old=/store/old --quantization fp8\n"
    ],
    env=[{"name": "MODEL", "value": "/store/models/base"}],
)
KSERVE = container(
    name="kserve-container",
    image="registry.example/vllm:v1",
    command=["python3", "-m", "vllm.entrypoints.openai.api_server"],
    args=[
        "--model=/mnt/models/llama",
        "--served-model-name=llama",
        "--port=8080",
        "--enable_lora",
        "--max_lora_rank=64",
    ],
    volumeMounts=[STORE_MOUNT, {"name": "models", "mountPath": "/mnt/models", "subPath": "hub", "readOnly": True}],
)
MODELS = {"name": "models", "persistentVolumeClaim": {"claimName": "models"}}
PRODUCTION_STACK = container(
    command=["/opt/venv/bin/vllm", "serve", "meta-llama/Llama-3.1-8B-Instruct"],
    args=[
        *("--host", "0.0.0.0", "--port", "8000", "--no-enable-prefix-caching", "--max-model-len", "4096"),
        *("--enable-lora", "--max-loras", "4", "--max-lora-rank", "32", "--lora-modules", "a=/x", "b=/y"),
        *("--revision", "abc123", "--dtype", "bfloat16"),
    ],
    env=[
        UPDATING,
        {"name": "HF_HOME", "value": "/data"},
        {"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "vllm", "key": "api-key"}}},
    ],
    volumeMounts=[STORE_MOUNT, {"name": "models", "mountPath": "/data"}],
)
SIDECAR = {"name": "proxy", "image": "envoy:1", "args": ["--config", "/etc/envoy.yaml"]}
