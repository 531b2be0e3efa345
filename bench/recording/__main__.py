"""`python -m bench.recording`: docs/recording.cast and docs/recording.md, from the commands of story.py.

    python -m bench.recording [--kubeconfig FILE] [--take-over] [--helm PROGRAM] [--out DIRECTORY]

Without --kubeconfig it makes the sandbox's cluster, which stays up. Nothing is written unless every command succeeds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.recording.player import Frame, Played, RecordingFailed, Scene, play
from bench.recording.stage import programs, stage, until_base_serves
from bench.recording.story import INSTALLATION, LIFE, TAKE_OVER, TITLE
from bench.recording.written import cast, page, state_of
from sandbox.demo.narrator import DemoFailed, Narrator
from sandbox.demo.prepare import CHECKOUT, output_of


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.recording", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, help="of a cluster of the sandbox; default: it is made")
    parser.add_argument(
        "--take-over", action="store_true", help="record how Helm takes over what kubectl has installed"
    )
    parser.add_argument("--helm", type=Path, help="default: it is built")
    parser.add_argument("--out", type=Path, default=CHECKOUT / "docs")
    given = parser.parse_args()
    try:
        helm = given.helm or Path(output_of("helm/build.sh")) / "helm"
        n = stage(given.kubeconfig, given.take_over)
        write(_play(n, helm, given.take_over), given.out)
    except (RecordingFailed, DemoFailed) as error:
        print(f"recording: {error}", file=sys.stderr)
        return 1
    return 0


def _play(n: Narrator, helm: Path, take_over: bool) -> list[Played]:
    scenes = [replace(s, command=s.command + TAKE_OVER * take_over) for s in INSTALLATION]
    kubeconfig, kubectl = Path(n.environment["KUBECONFIG"]).resolve(), Path(n.kubectl_command[0])
    with programs(kubeconfig, kubectl, helm.resolve()) as environment:
        played = play_all(scenes, environment)
        until_base_serves(n)
        return played + play_all(LIFE, environment)


def play_all(scenes: Sequence[Scene], environment: Mapping[str, str], directory: Path = CHECKOUT) -> list[Played]:
    played = []
    for scene in scenes:
        print(f"{scene.command} ... (at most {scene.limit:.0f} s)", flush=True)
        played.append(play(scene, environment, directory, _teller()))
        print(f"  {played[-1].seconds:.1f} s, {len(played[-1].frames)} pictures", flush=True)
    return played


def _teller() -> Callable[[Frame], None]:
    """Prints where the release stands, each time that it stands elsewhere."""
    last = ""

    def tell(frame: Frame) -> None:
        nonlocal last
        if (state := state_of(frame)) and state != last:
            print(f"  {frame.at:5.0f} s  {state}", flush=True)
            last = state

    return tell


def write(played: Sequence[Played], out: Path) -> None:
    for name, text in (("recording.cast", cast(played, TITLE)), ("recording.md", page(played))):
        (out / name).write_text(text, encoding="utf-8")
        print(out / name)


if __name__ == "__main__":
    sys.exit(main())
