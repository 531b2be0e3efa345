"""What is played: each command as it is typed, in the checkout's directory. Must not know: how it is played."""

from __future__ import annotations

from bench.recording.player import Scene

TITLE = "adapter release controller: from helm install to a rollback"
RELEASE, NAMESPACE, SYSTEM = "support-bot", "llm", "adapter-release-system"
INSTALL = (
    f"helm install adapter-release-controller charts/adapter-release-controller -n {SYSTEM} --create-namespace --wait"
)
TAKE_OVER = " --take-ownership --force-conflicts"

_PLUGIN = "kubectl adapterrelease"
_IT = f"{RELEASE} -n {NAMESPACE}"

INSTALLATION = (Scene("Install the controller", INSTALL, 300),)
LIFE = (
    Scene("Apply a release", "kubectl apply -f sandbox/demo/manifests/release.yaml"),
    Scene("Watch until its adapter serves", f"{_PLUGIN} status {_IT} --timeout 10m", 660),
    Scene("All releases at a glance", f"{_PLUGIN} get -n {NAMESPACE}"),
    Scene("Promote it, and see first what that writes", f"{_PLUGIN} promote {_IT} --dry-run"),
    Scene("Promote it", f"{_PLUGIN} promote {_IT}"),
    Scene("Watch it being merged, quantized, validated and swapped in", f"{_PLUGIN} status {_IT} --timeout 1h", 3660),
    Scene("What has served", f"{_PLUGIN} history {_IT}"),
    Scene("Roll back", f"{_PLUGIN} rollback {_IT}"),
    Scene("Watch it go back", f"{_PLUGIN} status {_IT} --timeout 5m", 330),
    Scene("And forward again: nothing is built twice", f"{_PLUGIN} promote {_IT}"),
    Scene("Watch it come back", f"{_PLUGIN} status {_IT} --timeout 30m", 1860),
)
