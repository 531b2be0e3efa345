"""A build on a GPU, by the commands that a user has: how long, how much memory, and how near the weights are.

python bench/gpu_build.py DIR [--sizes 0.5B 8B] [--methods AWQ FP8] [--samples 32] [--length 512]

Makes models shaped like Llamas with random weights in DIR (the 8B has 16 GB, and takes 50 GB in all), LoRA r=16 on
all linear layers, and calibration data of random words. Times `merge` beside `cp`, then builds with each method, and
compares every matrix of the artifact, decoded, with the merged one. Needs torch with a GPU and llm-compressor; without
a GPU it computes on the processor. Not a test: prints JSON lines, asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from safetensors import safe_open

from bench.merge import SHAPES, Fill, Shape, commands, make, timed, wrong
from controller.job.base import read_base
from controller.job.provenance import read_artifact

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ENVIRONMENT = {
    "PYTHONPATH": f"{Path(__file__).resolve().parents[1]}:{os.environ.get('PYTHONPATH', '')}",
    "TQDM_DISABLE": "1",
}
READERS = {  # and the norms before them
    **dict.fromkeys(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "input"),
    "self_attn.o_proj": "",
    **dict.fromkeys(("mlp.gate_proj", "mlp.up_proj"), "post_attention"),
    "mlp.down_proj": "",
}
# What `python -m controller` does, on a device of fewer bytes.
ON_LESS = """
import sys, torch
from controller.cli.main import main
from controller.job import quantize
size = int(sys.argv.pop(1)) << 30
torch.cuda.set_per_process_memory_fraction(size / torch.cuda.get_device_properties(0).total_memory)
quantize.device_memory = lambda: size
main()
"""
STARTED = time.monotonic()


def say(**what: Any) -> None:
    print(json.dumps({"at": round(time.monotonic() - STARTED, 1), **what}), flush=True)


def normal() -> Fill:
    """bfloat16 made on the device: matrices as a model begins with, norms that make some channels large."""
    generator = torch.Generator(DEVICE).manual_seed(0)

    def fill(name: str, size: int) -> bytes:
        numbers = torch.randn(size // 2, generator=generator, device=DEVICE)
        numbers = (numbers / 2).exp() if "norm" in name else numbers * 0.02
        made: bytes = numbers.bfloat16().view(torch.uint8).cpu().numpy().tobytes()
        return made

    return fill


def add_tokenizer(base: Path, shape: Shape) -> None:
    """As many words as the vocabulary has: `w0 w1 ...`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"w{n}": n for n in range(shape.vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0").save_pretrained(base)


def add_calibration(path: Path, shape: Shape, samples: int, length: int) -> None:
    chosen = random.Random(0)
    with path.open("w") as out:
        for _ in range(samples):
            text = " ".join(f"w{chosen.randrange(shape.vocabulary)}" for _ in range(length))
            out.write(json.dumps({"text": text}) + "\n")


def merge_beside_copy(size: str, work: Path, rounds: int) -> None:
    """Leaves what was merged, for the comparison."""
    base = read_base(work / "base")
    for number in range(rounds):
        for name, command in commands(work, None, None).items():
            out = work / name.split(" ")[0]
            run = timed(command, work / "base", out, ENVIRONMENT)
            more = {"wrong": wrong(base, work, out)} if name == "merge" and number == 0 else {}
            rate = round(base.size / run.seconds / 1e9, 2)
            said = {"seconds": round(run.seconds, 2), "cpu": round(run.cpu_seconds, 2), "peakMiB": run.peak >> 20}
            say(size=size, what=name, round=number, GB=round(base.size / 1e9, 2), GBps=rate, **said, **more)
            if name != "merge":
                shutil.rmtree(out)


def build(size: str, work: Path, method: str, arguments: argparse.Namespace) -> Path:
    store = work / "store"
    data = work / "calibration.jsonl"
    asked = ["--calibration", data, "--samples", arguments.samples, "--sequence-length", arguments.length]
    controller = ["-c", ON_LESS, arguments.gib] if arguments.gib else ["-m", "controller"]
    command = [sys.executable, *controller, "build", "--base", work / "base", "--adapter", work / "adapter"]
    command += ["--out", store, "--method", method, "--json", *(asked if method != "FP8" else [])]
    began = time.monotonic()
    done = subprocess.run([str(part) for part in command], env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE)
    seconds = time.monotonic() - began
    if done.returncode:
        sys.exit(f"{method} of {size} ended with {done.returncode}: {done.stdout.decode()}")
    result = json.loads(done.stdout)
    statement = read_artifact(Path(result["path"]))
    memory = {k: v >> 20 for k, v in statement.measured["memoryBytes"].items()}
    stages = {k: round(v, 1) for k, v in result["seconds"].items()}
    used = {} if method == "FP8" else {"samples": arguments.samples, "length": arguments.length}
    sizes = {"sizeMB": result["sizeBytes"] // 10**6, "files": len(list(Path(result["path"]).glob("*.safetensors")))}
    sizes |= {"digest": result["digest"][:15]}
    say(size=size, what=method, seconds=round(seconds, 1), stages=stages, memoryMiB=memory, **sizes, **used)
    return Path(result["path"])


class Stored:
    """The tensors of a checkpoint, on the device, as the weights that they stand for."""

    def __init__(self, directory: Path) -> None:
        files = [safe_open(path, "pt", device=DEVICE) for path in sorted(directory.glob("*.safetensors"))]
        self._file = {name: file for file in files for name in file.keys()}  # noqa: SIM118 - it is no dict

    def weight(self, name: str) -> Any:
        module = name.removesuffix(".weight")
        scale = self._read(f"{module}.weight_scale")
        packed = self._read(f"{module}.weight_packed")
        if packed is not None:
            return self._unpacked(module, packed, scale.float())
        weight = self._read(name).float()
        return weight if scale is None else weight * scale.float()

    def _read(self, name: str) -> Any:
        return self._file[name].get_tensor(name) if name in self._file else None

    def _unpacked(self, module: str, packed: Any, scale: Any) -> Any:
        """int4 by eights in an int32, lowest bits first, 8 stands for 0; zero points along the outputs."""
        values = _nibbles(packed).flatten(-2).reshape(len(packed), scale.shape[1], -1)
        zero: Any = 8
        points = self._read(f"{module}.weight_zero_point")
        if points is not None:
            zero = _nibbles(points).permute(0, 2, 1).reshape(-1, points.shape[1])[: len(values), :, None]
        return ((values - zero) * scale[:, :, None]).reshape(len(values), -1)


def _nibbles(packed: Any) -> Any:
    return torch.stack([(packed >> (4 * i)) & 15 for i in range(8)], dim=-1)


def errors(merged: Stored, artifact: Stored, layers: int) -> dict[str, float]:
    """Of each kind of matrix the worst: the length of the difference to the merged one, as a share of its length.

    AWQ moves a scale for each channel out of what writes it into what reads it. Norms say which; of down_proj's the
    rows of up_proj do. So a scale that was not moved back is an error here.
    """
    worst = dict.fromkeys(READERS, 0.0)
    for layer in range(layers):
        rows: Any = 1.0
        for module, norm in READERS.items():
            name = f"model.layers.{layer}.{module}.weight"
            wanted, got = merged.weight(name), artifact.weight(name)
            if norm:
                of_norm = f"model.layers.{layer}.{norm}_layernorm.weight"
                wanted = wanted * (merged.weight(of_norm) / artifact.weight(of_norm))
            if module == "mlp.up_proj":
                rows = (wanted * got).sum(1) / (wanted * wanted).sum(1)
                wanted = wanted * rows[:, None]
            elif module == "mlp.down_proj":
                wanted = wanted / rows
            worst[module] = max(worst[module], round(float((wanted - got).norm() / wanted.norm()), 4))
    return worst


def measure(size: str, arguments: argparse.Namespace) -> None:
    shape, work = SHAPES[size], arguments.directory / f"{size}-{arguments.layers or 'all'}"
    if arguments.layers:
        shape = replace(shape, layers=arguments.layers)
    began = time.monotonic()
    make(work, shape, normal())
    add_tokenizer(work / "base", shape)
    add_calibration(work / "calibration.jsonl", shape, arguments.samples, arguments.length)
    say(size=size, what="made", seconds=round(time.monotonic() - began, 1))
    merge_beside_copy(size, work, arguments.rounds)
    for method in arguments.methods:
        artifact = build(size, work, method, arguments)
        if arguments.rounds:
            found = errors(Stored(work / "merge"), Stored(artifact), shape.layers)
            say(size=size, what=f"{method}: errors of weights", **found)
        shutil.rmtree(work / "store")
    if DEVICE == "cuda":
        torch.cuda.empty_cache()


def machine() -> Iterator[tuple[str, str]]:
    from importlib.metadata import version

    yield "device", torch.cuda.get_device_name() if DEVICE == "cuda" else "no GPU"
    yield "cores", str(len(os.sched_getaffinity(0)))
    yield "python", platform.python_version()
    for name in ("torch", "transformers", "llmcompressor", "compressed-tensors", "llvmlite", "numpy"):
        yield name, version(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--sizes", nargs="+", choices=SHAPES, default=["0.5B", "8B"])
    parser.add_argument("--methods", nargs="+", choices=["AWQ", "GPTQ", "FP8", "INT8"], default=["AWQ", "FP8"])
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--length", type=int, default=512, help="Tokens of a sample.")
    parser.add_argument("--rounds", type=int, default=1, help="Of merge beside cp; 0: neither, and no comparison.")
    parser.add_argument("--layers", type=int, help="Only so many of the model's.")
    parser.add_argument("--gib", type=int, help="As on a GPU that has so much memory free.")
    arguments = parser.parse_args()
    say(what="machine", **dict(machine()))
    for size in arguments.sizes:
        measure(size, arguments)


if __name__ == "__main__":
    main()
