"""Does a test go red when a rule of the decision is broken? One small textual mutation at a time, in a copy.

    .venv/bin/python bench/mutations.py [--properties] [--only N]

For each of the design's eight invariants some rule in controller/domain is broken, and tests/domain is run until the
first failure. Prints a table; exits with 1 when a mutation survives. `--properties` runs the state machine only, and
shows what it finds without the examples.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROPERTIES = ["tests/domain/test_plan_properties.py"]
EXAMPLES = sorted({f"tests/domain/{path.name}" for path in (ROOT / "tests/domain").glob("test_*.py")} - {*PROPERTIES})
TIMEOUT = 600


@dataclass(frozen=True)
class Mutation:
    """`old` stands in the file exactly once, and becomes `new`."""

    invariant: int
    broken: str
    file: str
    old: str
    new: str


MUTATIONS = [
    Mutation(
        1,
        "the route is pointed at a backend without a look whether it is up",
        "traffic.py",
        "if can_answer(d.seen, backend) and (route is None",
        "if (route is None",
    ),
    Mutation(
        1,
        "a switch is believed when the Service was patched, without an answer",
        "traffic.py",
        "    if route_is_proven(d, target):\n        if not d.is_late",
        "    if d.seen.route and dict(d.seen.route.selector) == d.seen.selector_for(target):\n        if not d.is_late",
    ),
    Mutation(
        1,
        "the port of the route is not looked at",
        "traffic.py",
        "return route.target_port == d.seen.port_for(backend) or not is_known",
        "return True",
    ),
    Mutation(
        1,
        "an update takes all pods out of the route at once",
        "pod_by_pod.py",
        "if taken < quota(len(able)) and len(proven) > 1:",
        "if taken <= len(pods):",
    ),
    Mutation(
        1,
        "a label is believed after the container restarted",
        "loading.py",
        "return held[:SHORT] != pod.loaded_label",
        "return False",
    ),
    Mutation(
        1,
        "an adapter that vLLM cannot serve is taken for one that it can",
        "backends.py",
        "if adapter is not None and not adapter.merge_only else None",
        "if adapter is not None else None",
    ),
    Mutation(
        2,
        "without an adapter to compare with no minScore is asked for",
        "checks.py",
        'return f"there is no live adapter to compare with: {\'; \'.join(wanted)}" if wanted else ""',
        'return ""',
    ),
    Mutation(
        2,
        "the verdict is not looked at",
        "pipeline.py",
        "if artifact.validation_inputs == inputs and artifact.verdict == Verdict.PASS:",
        "if artifact.validation_inputs == inputs:",
    ),
    Mutation(
        2,
        "a verdict for another validation counts",
        "pipeline.py",
        "if artifact.validation_inputs == inputs and artifact.verdict == Verdict.PASS:",
        "if artifact.verdict == Verdict.PASS:",
    ),
    Mutation(
        2,
        "a candidate that is up is switched to without a validation",
        "pipeline.py",
        "and _validate(d, artifact, validation) and _grow(d, artifact):",
        "and _grow(d, artifact):",
    ),
    Mutation(
        3,
        "Inconclusive is treated as Pass",
        "checks.py",
        "for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):",
        "for verdict in (Verdict.FAIL,):",
    ),
    Mutation(
        3,
        "a validation job that failed leaves a Pass behind",
        "pipeline.py",
        '{"verdict": Verdict.INCONCLUSIVE, "validation_inputs": inputs}))\n        d.reject_backend(',
        '{"verdict": Verdict.PASS, "validation_inputs": inputs}))\n        d.rest(); return False\n'
        "        d.reject_backend(",
    ),
    Mutation(
        3,
        "a score that is NaN is no obstacle",
        "checks.py",
        "if scored.samples <= 0 or adapter is None or artifact is None:",
        "if adapter is None or artifact is None:\n"
        '        return Judgement(Verdict.PASS, "")\n'
        "    if scored.samples <= 0:",
    ),
    Mutation(
        3,
        "an observation that did not end counts as one that went well",
        "pipeline.py",
        "if d.is_unobserved and can_answer(d.seen, served)",
        "if False and can_answer(d.seen, served)",
    ),
    Mutation(
        4,
        "a Deployment goes before scaleDownDelay is over",
        "cleanup.py",
        "d.rollout.origin, *(x.backend for x in d.rollout.draining)]",
        "d.rollout.origin]",
    ),
    Mutation(
        1,
        "clients get the next version before the switch was decided",
        "in_place.py",
        "return served.id",
        "return wanted",
    ),
    Mutation(
        1,
        "a switch is reported while a pod in the route gives another version",
        "backends.py",
        "return pod.usable and labelled and (pod.adapters is None or holds(seen, pod, digest))",
        "return pod.usable and (pod.routed_label or labelled)",
    ),
    Mutation(
        4,
        "a version is unloaded while requests run on it",
        "draining.py",
        "return running > 0 and engine_name in kept",
        "return False",
    ),
    Mutation(
        4,
        "what lost the route goes while requests run on it",
        "draining.py",
        "return d.now >= entry.until + DRAIN_LIMIT or _running(d, entry.backend) == 0",
        "return True",
    ),
    Mutation(
        4,
        "what serves may be deleted",
        "cleanup.py",
        "backends = [d.served, d.rollout.target,",
        "backends = [d.rollout.target,",
    ),
    Mutation(
        4,
        "an adapter is unloaded as soon as its pod left the route",
        "pod_steps.py",
        "elif d.now >= ends:",
        "elif True:",
    ),
    Mutation(
        5,
        "rejected artifacts are forgotten",
        "draft.py",
        "return next((r for r in self.rollout.rejected if r.id == backend_id and r.inputs == inputs), None)",
        "return None",
    ),
    Mutation(
        5,
        "a rollback does not remember what it left",
        "traffic.py",
        "d.reject_backend(d.step if moving else Step.IDLE, bad.id, reason, message)",
        "pass",
    ),
    Mutation(
        5,
        "what answers again is taken back, whatever it was rejected for",
        "traffic.py",
        "return excused and bad == d.served",
        "return bad == d.served",
    ),
    Mutation(
        5,
        "an update that failed is tried again and again",
        "backends.py",
        "    return backend.kind is BackendKind.ARTIFACT or (d.served",
        "    return backend.kind is BackendKind.ARTIFACT and (d.served",
    ),
    Mutation(6, "a deadline that is over has no outcome", "pipeline.py", "return d.now >= deadline", "return False"),
    Mutation(
        6,
        "no deadline is written down",
        "draft.py",
        "deadline=self.now + limit,",
        "deadline=None,",
    ),
    Mutation(
        6,
        "a switch waits for its proof for ever",
        "traffic.py",
        "if origin is not None and (d.is_late or (dead and can_answer(d.seen, origin))):",
        "if origin is not None and (dead and can_answer(d.seen, origin)):",
    ),
    Mutation(
        6,
        "an artifact that is away is waited for for ever",
        "traffic.py",
        "if d.now < ends:\n        d.wake_at(ends)",
        "if True:\n        d.wake_at(ends)",
    ),
    Mutation(
        7,
        "every version of an adapter has the same path",
        "snapshot.py",
        'return f"{self.store_path}/adapters/{adapter_name}/{hex_of(digest)}"',
        'return f"{self.store_path}/adapters/{adapter_name}/latest"',
    ),
    Mutation(
        7,
        "a new version is loaded in place, under the name that clients use",
        "pod_steps.py",
        "d.do(StageAdapter(why, pod.name, d.seen.engine_name(digest), digest, path_of(d, digest)))",
        "d.do(StageAdapter(why, pod.name, d.seen.model_name, digest, path_of(d, digest)))",
    ),
    Mutation(
        8,
        "a decision is carried out before it is written down",
        "plan.py",
        "actions=() if decided else tuple(draft.actions),",
        "actions=tuple(draft.actions),",
    ),
    Mutation(
        8,
        "what serves is no decision: it is acted upon before it is written down",
        "draft.py",
        "return (old.serving, old.base, _decision(old.rollout)) != (new.serving, new.base, _decision(new.rollout))",
        "return False",
    ),
    Mutation(
        8,
        "a job is ended although its result is awaited",
        "cleanup.py",
        "if job.kind is JobKind.VALIDATE:\n",
        "if True:\n",
    ),
    Mutation(
        8,
        "the same inputs are built again after every edit",
        "inputs.py",
        'return key_of("build", made_of,',
        'return key_of("build", release.metadata.generation, made_of,',
    ),
]


def copy_of_the_tree(to: Path) -> None:
    for part in ("controller", "tests/domain"):
        shutil.copytree(ROOT / part, to / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("tests/__init__.py", "tests/builders.py", "pyproject.toml"):
        shutil.copy(ROOT / part, to / part)


def first_failure(tree: Path, tests: list[str]) -> str | None:
    """Name of the test that went red; None when all passed."""
    environment = os.environ | {"HYPOTHESIS_PROFILE": "first failure", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    if done.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) \S+?::(.+?)(?: - (.*))?$", done.stdout, re.MULTILINE)
    if found is None:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    broken = re.search(r"Broken: (\d[^\n]*)", done.stdout)
    return found.group(1) + (f" ({broken.group(1)})" if broken else "")


def mutated(tree: Path, mutation: Mutation) -> None:
    path = tree / "controller" / "domain" / mutation.file
    text = path.read_text()
    if text.count(mutation.old) != 1:
        raise SystemExit(
            f"{mutation.file} has {text.count(mutation.old)} times: {mutation.old!r}; bring this up to date"
        )
    path.write_text(text.replace(mutation.old, mutation.new))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--properties", action="store_true", help="run the state machine only")
    parser.add_argument("--only", type=int, help="one invariant")
    wanted = parser.parse_args()
    tests = PROPERTIES if wanted.properties else EXAMPLES + PROPERTIES
    survivors = 0
    print("| invariant | what was broken | the test that went red |\n|---|---|---|")
    for mutation in MUTATIONS:
        if wanted.only not in (None, mutation.invariant):
            continue
        with tempfile.TemporaryDirectory(prefix="mutation-") as directory:
            copy_of_the_tree(Path(directory))
            mutated(Path(directory), mutation)
            killer = first_failure(Path(directory), tests)
        survivors += killer is None
        print(f"| {mutation.invariant} | {mutation.broken} | {killer or '**none: it survived**'} |", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
