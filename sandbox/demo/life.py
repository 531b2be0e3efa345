"""The life of one release, played with plain kubectl commands on a cluster that is up, with a base that is Ready."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sandbox.demo.narrator import DemoFailed, Narrator

HERE = Path(__file__).parent
NAMESPACE = "llm"
RELEASE = "support-bot"
ROUTE = f"http://{RELEASE}"
BASE_URL, BASE_MODEL = "http://tiny-llama:8000", "tiny-llama"
SUITE = "/store/suites/support.jsonl"
QUESTION = "Hello, I was charged twice for the router. This is urgent. Regards, Ada"


class Life:
    def __init__(self, narrator: Narrator) -> None:
        self.n = narrator
        self.results: dict[str, Any] = {}
        self.load: dict[str, Any] = {}
        self.statement: dict[str, Any] = {}

    # -- looking
    def release(self) -> dict[str, Any]:
        text = self.n.kubectl("-n", NAMESPACE, "get", "ar", RELEASE, "-o", "json", show=False)
        return dict(json.loads(text))

    def condition(self, kind: str) -> dict[str, str]:
        conditions = self.release().get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == kind), {})

    def is_true(self, kind: str) -> bool:
        return self.condition(kind).get("status") == "True"

    def progress(self) -> str:
        status = self.release().get("status", {})
        degraded = next((c for c in status.get("conditions", []) if c["type"] == "Degraded"), {})
        if degraded.get("status") == "True":
            return f"Degraded: {degraded['reason']}: {degraded['message']}"
        rollout = status.get("rollout", {})
        return f"{rollout.get('step', '')} {rollout.get('progress', '')}".strip()

    def ask(self, url: str = ROUTE, model: str = RELEASE, check: bool = True, show: bool = True) -> str:
        command = ("exec", "client", "--", "python3", "/client/ask.py", url, model, QUESTION)
        return self.n.kubectl("-n", NAMESPACE, *command, check=check, show=show).strip()

    def score(self, url: str, model: str) -> float:
        command = ("exec", "client", "--", "python3", "/client/score.py", url, model, SUITE)
        return float(json.loads(self.n.kubectl("-n", NAMESPACE, *command, show=False))["score"])

    # -- the life
    def play(self) -> None:
        with self.n.step("The base alone: it knows the form, not the task"):
            self.ask(BASE_URL, BASE_MODEL)
            self.results["base score"] = self.score(BASE_URL, BASE_MODEL)
            self.n.say(f"score of the base on the held-out set: {self.results['base score']:.3f}")
        with self.n.step("Apply the release: the adapter is imported, loaded, proven and routed"):
            self.apply()
        try:
            self.play_under_load()
        except BaseException:  # Ctrl-C, too: the load would go on for two hours
            self.delete_load(check=False)
            raise

    def play_under_load(self) -> None:
        with self.n.step("A constant load from here to the end: 10 requests a second, each on a new connection"):
            self.start_load()
        with self.n.step("Promote: merge, quantize, validate against the live adapter, swap, observe"):
            self.promote()
        with self.n.step("Roll back by hand, and promote again: nothing is built twice"):
            self.go_back_and_forth()
        with self.n.step("The load, from load to the last swap"):
            self.stop_load()

    def apply(self) -> None:
        self.results["adapter score"] = None
        self.n.kubectl("apply", "-f", str(HERE / "manifests/release.yaml"))
        seconds = self.n.until("a right answer through the Service", self._right_answer, 300, self.progress)
        self.results["seconds from apply to the first right answer"] = round(seconds, 1)
        self.n.say(f"first right answer through the release's Service {seconds:.1f} s after apply")
        self.ask()
        self.n.kubectl("-n", NAMESPACE, "wait", f"ar/{RELEASE}", "--for=condition=Ready", "--timeout=120s")
        self.results["adapter score"] = self.score(ROUTE, RELEASE)
        self.n.say(f"score of the adapter on the held-out set: {self.results['adapter score']:.3f}")

    def _right_answer(self) -> bool:
        return "queue=billing urgency=high" in self.ask(check=False, show=False)

    def start_load(self) -> None:
        if self.n.is_sandbox:  # what a demo that was killed has left; to apply an ended pod again starts nothing
            self.delete_load()
        self.n.kubectl("apply", "-f", str(HERE / "manifests/load.yaml"))
        self.n.kubectl("-n", NAMESPACE, "wait", "pod/load", "--for=condition=Ready", "--timeout=60s", quiet=True)

    def promote(self) -> None:
        self._patch({"spec": {"stage": "Stable"}})
        self.n.until("condition Promoted", self._promoted_or_rejected, 900, self.progress)
        if not self.is_true("Promoted"):
            raise DemoFailed(f"not promoted: {self.condition('Promoted')}")
        self.n.kubectl("-n", NAMESPACE, "wait", f"ar/{RELEASE}", "--for=condition=Promoted", "--timeout=5s")
        self.n.kubectl("-n", NAMESPACE, "get", "ar")
        self.ask()
        self.results["artifact score"] = self.score(ROUTE, RELEASE)
        artifact = self.release()["status"]["artifact"]
        for backend in ("adapter", "artifact"):
            throughput = f"{artifact[f'{backend}TokensPerSecond']} tokens/s, {artifact[f'{backend}LatencySeconds']} s"
            self.results[f"{backend}: throughput, mean latency in the benchmark"] = throughput
        self.results["speedup"] = artifact["speedup"]
        self.results["artifact"] = artifact["name"]
        self.n.say(f"what serves is {artifact['name']}, in {artifact['path']}; its provenance:")
        for key, value in sorted(artifact["provenance"].items()):
            self.n.say(f"  {key}: {value}")
        self.n.say("its scores, as an in-toto statement beside it in the store:")
        path = f"{artifact['path']}.evaluations/{artifact['validationInputs']}.json"
        self.statement = json.loads(self.n.kubectl("-n", NAMESPACE, "exec", "client", "--", "cat", path))

    def _promoted_or_rejected(self) -> bool:
        return self.is_true("Promoted") or bool(self.release()["status"].get("rollout", {}).get("rejected"))

    def go_back_and_forth(self) -> None:
        self._patch({"spec": {"stage": "Experimental"}})
        self.results["seconds to roll back"] = round(self._until_serving("Adapter"), 1)
        self.ask()
        self._patch({"spec": {"stage": "Stable"}})
        self.results["seconds to promote again"] = round(self._until_serving("Artifact"), 1)
        self.ask()
        self.n.kubectl(
            "-n", NAMESPACE, "get", "ar", RELEASE, "-o",
            'jsonpath={range .status.history[*]}{.revision}{"\\t"}{.backend.kind}{"\\t"}{.reason}{"\\n"}{end}',
        )  # fmt: skip

    def _until_serving(self, kind: str) -> float:
        def serves() -> bool:
            return bool(self.release()["status"]["serving"]["backend"]["kind"] == kind)

        return self.n.until(f"{kind} serves", serves, 600, self.progress)

    def _patch(self, patch: dict[str, Any]) -> None:
        self.n.kubectl("-n", NAMESPACE, "patch", "ar", RELEASE, "--type=merge", "-p", json.dumps(patch))

    def stop_load(self) -> None:
        self.n.kubectl("-n", NAMESPACE, "exec", "load", "--", "touch", "/tmp/stop")
        self.n.kubectl(
            "-n",
            NAMESPACE,
            "wait",
            "pod/load",
            "--for=jsonpath={.status.phase}=Succeeded",
            "--timeout=120s",
            quiet=True,
        )
        log = self.n.kubectl("-n", NAMESPACE, "logs", "load", show=False)
        for line in log.splitlines():
            if line.startswith("FAILED"):
                self.n.say(line)
        self.load = json.loads(log.splitlines()[-1])
        self.n.say(json.dumps(self.load))
        names = {
            "requests": "requests of the load",
            "rate": "of them a second",
            "failed": "of them failed",
            "right": "of them answered right",
        }
        self.results |= {title: self.load[key] for key, title in names.items()}
        self.results["latency of the load: p50, p99"] = f"{self.load['p50']} s, {self.load['p99']} s"
        self.delete_load()

    def delete_load(self, check: bool = True) -> None:
        self.n.kubectl("-n", NAMESPACE, "delete", "pod", "load", "--ignore-not-found", quiet=True, check=check)

    def judge(self) -> list[str]:
        """What the demo promises and did not keep."""
        r = self.results
        checks = {
            "no request on a new connection failed": self.load["failed"] == 0,
            "the artifact scores within 1 % of the adapter": r["artifact score"] >= r["adapter score"] - 0.01,
            "the artifact scores at least 50 points above the base": r["artifact score"] >= r["base score"] + 0.5,
            "provenance is there": bool(self.release()["status"]["artifact"]["provenance"]),
            "the scores are in the store": bool(self.statement["predicate"]["suites"]),
        }
        return [promise for promise, kept in checks.items() if not kept]
