"""Values that turn on everything there is: each template renders something."""

from typing import Any

DIGEST = "sha256:" + "a" * 64
QUEUED = {
    "metadata": {"labels": {"kueue.x-k8s.io/queue-name": "jobs"}},
    "spec": {
        "tolerations": [{"key": "batch", "operator": "Exists"}],
        "containers": [{"name": "job", "env": [{"name": "A", "value": 'a "quoted" <&> one'}]}],
    },
}
ALL: dict[str, Any] = {
    "namespace": {"create": True},
    "image": {"tag": "1.2.3", "digest": DIGEST},
    "imagePullSecrets": [{"name": "pull"}],
    "jobs": {"image": {"tag": "1.2.3"}, "serviceAccountName": "jobs", "podTemplate": QUEUED},
    "watchNamespaces": ["llm", "prod"],
    "settings": {"workers": 8, "logLevel": "DEBUG"},
    "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "volumes": [{"name": "kubeconfig", "secret": {"secretName": "kubeconfig"}}],
    "volumeMounts": [{"name": "kubeconfig", "mountPath": "/etc/kubeconfig", "readOnly": True}],
    "replicas": 3,
    "rbac": {"apiKeySecrets": [{"namespace": "llm", "name": "vllm-api-key"}]},
    "serviceAccount": {"annotations": {"a": "b"}},
    "networkPolicy": {
        "enabled": True,
        "metricsFrom": [{"podSelector": {}}],
        "enginePorts": [8000, 9402],
        "egress": [{"ports": [{"port": 3128}]}],
    },
    "commonLabels": {"team": "ml"},
    "podLabels": {"x": "y"},
    "podAnnotations": {"x": "y"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "cpu", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
    ],
    "priorityClassName": "system-cluster-critical",
    "metrics": {
        "service": {"annotations": {"a": "b"}},
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "interval": "15s", "scrapeTimeout": "5s"},
        "jobsPodMonitor": {"enabled": True},
        "vllmPodMonitor": {"enabled": True, "ports": ["http", 8000], "bases": {"matchLabels": {"app": "vllm"}}},
        "runbookUrl": "https://runbooks.example.com",
        "prometheusRule": {"enabled": True},
    },
    "grafana": {"dashboards": {"enabled": True}},
    "store": {"create": True, "namespace": "llm", "annotations": {"a": "b"}},
}
