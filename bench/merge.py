"""How fast a merge is, beside `cp`, PEFT and mergekit, in one run: times, peak memory, and how many weights are wrong.

python bench/merge.py DIR --ml-python PATH [--mergekit PATH] [--sizes 1B 3B] [--rounds 3] [--slow-rounds 1]

Makes models shaped like Llamas with random weights in DIR (14 GB for the 3B), and LoRA r=16 on all linear layers.
Every run starts with the input in the page cache and nothing left to be written, and ends when its output is on the
disk; with DIR on a tmpfs no disk takes part. The paths are a Python with torch, transformers and peft, and mergekit's
`mergekit-yaml`. Not a test: prints a table, asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from controller.job.base import Base, read_base
from controller.job.floats import decode, encode
from controller.job.safetensors_header import encode_header, size_of

RANK, ALPHA = 16, 32
PEFT = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, adapter, out, shard = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(out, max_shard_size=shard)
"""

# A child's peak memory begins with what its parent had when it was started: so the parent is a small one.
RUNNER = """
import os, sys
_, status, usage = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
print([usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024])
sys.exit(status and 1)
"""


@dataclass(frozen=True)
class Shape:
    """A Llama: sizes as in its config.json."""

    hidden: int
    inner: int
    layers: int
    heads: int
    kv: int
    vocabulary: int
    shards: int
    tied: bool = True

    @property
    def head(self) -> int:
        return self.hidden // self.heads

    def linears(self) -> dict[str, tuple[int, int]]:
        wide, narrow = self.heads * self.head, self.kv * self.head
        return {
            "self_attn.q_proj": (wide, self.hidden),
            "self_attn.k_proj": (narrow, self.hidden),
            "self_attn.v_proj": (narrow, self.hidden),
            "self_attn.o_proj": (self.hidden, wide),
            "mlp.gate_proj": (self.inner, self.hidden),
            "mlp.up_proj": (self.inner, self.hidden),
            "mlp.down_proj": (self.hidden, self.inner),
        }

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield "model.embed_tokens.weight", (self.vocabulary, self.hidden)
        for layer in range(self.layers):
            for name, shape in self.linears().items():
                yield f"model.layers.{layer}.{name}.weight", shape
            for name in ("input_layernorm", "post_attention_layernorm"):
                yield f"model.layers.{layer}.{name}.weight", (self.hidden,)
        yield "model.norm.weight", (self.hidden,)
        if not self.tied:
            yield "lm_head.weight", (self.vocabulary, self.hidden)


SHAPES = {
    "0.5B": Shape(896, 4864, 24, 14, 2, 151936, 1),
    "1B": Shape(2048, 8192, 16, 32, 8, 128256, 1),
    "3B": Shape(3072, 8192, 28, 24, 8, 128256, 3),
    "8B": Shape(4096, 14336, 32, 32, 8, 128256, 4, tied=False),
}
Fill = Callable[[str, int], bytes]  # of a tensor's name, so many bytes


def write(path: Path, tensors: list[tuple[str, str, tuple[int, ...]]], fill: Fill) -> None:
    with path.open("wb") as f:
        f.write(encode_header(tensors, {"format": "pt"}))
        for name, dtype, shape in tensors:
            left = size_of(dtype, shape)
            while left:
                block = fill(name, min(left, 64 << 20))
                f.write(block)
                left -= len(block)


def random_bits() -> Fill:
    """bfloat16 with exponents from 2^-14 to 2^-3: nothing can be compressed."""
    random = np.random.default_rng(0)

    def fill(_: str, size: int) -> bytes:
        exponents = random.integers(113, 125, size // 2, np.uint16) << np.uint16(7)
        return ((random.integers(0, 1 << 16, size // 2, np.uint16) & np.uint16(0x807F)) | exponents).tobytes()

    return fill


def make(directory: Path, shape: Shape, fill: Fill) -> None:
    """Base and adapter; `fill` gives the base's weights."""
    base, adapter, random = directory / "base", directory / "adapter", np.random.default_rng(0)
    if (directory / "made").exists():
        return
    shutil.rmtree(directory, ignore_errors=True)
    base.mkdir(parents=True)
    adapter.mkdir()
    tensors = [(n, "BF16", s) for n, s in shape.tensors()]
    total, shards, used = sum(size_of(d, s) for _, d, s in tensors), [[] for _ in range(shape.shards)], 0
    for tensor in tensors:
        shards[min(used * shape.shards // total, shape.shards - 1)].append(tensor)
        used += size_of(*tensor[1:])
    names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    names = names if len(names) > 1 else ["model.safetensors"]
    for name, mine in zip(names, shards, strict=True):
        write(base / name, mine, fill)
    if len(names) > 1:
        places = {t[0]: name for name, mine in zip(names, shards, strict=True) for t in mine}
        (base / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {"total_size": total}, "weight_map": places})
        )
    lora = []
    for layer in range(shape.layers):
        for name, (out, inner) in shape.linears().items():
            module = f"base_model.model.model.layers.{layer}.{name}"
            lora.append((f"{module}.lora_A.weight", "F32", (RANK, inner)))
            lora.append((f"{module}.lora_B.weight", "F32", (out, RANK)))
    factors = adapter / "adapter_model.safetensors"
    write(factors, lora, lambda _, size: random.normal(0, 0.01, size // 4).astype("<f4").tobytes())
    (base / "config.json").write_text(json.dumps(_config(shape)))
    targets = [name.rpartition(".")[2] for name in shape.linears()]
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA, "target_modules": targets}
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(base)}))
    (directory / "made").touch()


def _config(shape: Shape) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv,
        "head_dim": shape.head,
        "vocab_size": shape.vocabulary,
        "tie_word_embeddings": shape.tied,
        "dtype": "bfloat16",
    }


@dataclass(frozen=True)
class Run:
    seconds: float
    cpu_seconds: float
    peak: int


def timed(command: list[str], base: Path, out: Path, environment: dict[str, str]) -> Run:
    """One run: from the start of the process to its output on the disk."""
    shutil.rmtree(out, ignore_errors=True)
    for path in base.glob("*"):
        with path.open("rb", buffering=0) as f:
            while f.read(16 << 20):
                pass
    os.sync()
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, *command], env=os.environ | environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{shlex.join(command)} failed:\n{done.stderr[-4000:]}")
    for path in out.glob("*"):
        with path.open("rb") as f:
            os.fsync(f)
    seconds = time.perf_counter() - started
    return Run(seconds, *json.loads(done.stdout.splitlines()[-1]))


SLOW = ("PEFT", "mergekit")


def commands(work: Path, ml_python: str | None, mergekit: str | None) -> dict[str, list[str]]:
    base, adapter = work / "base", work / "adapter"
    files = " ".join(str(p) for p in sorted(base.iterdir()))
    found = {
        "cp + fsync": ["/bin/sh", "-c", f"mkdir {work}/cp && cp {files} {work}/cp"],
        "merge": [
            *(sys.executable, "-m", "controller", "merge", "--base", str(base)),
            *("--adapter", str(adapter), "--out", f"{work}/merge", "--dtype", "auto"),
        ],
    }
    if ml_python:
        found["PEFT"] = [ml_python, "-c", PEFT, str(base), str(adapter), f"{work}/PEFT", "2400MB"]
    if mergekit:
        asked = {"models": [{"model": f"{base}+{adapter}", "parameters": {"weight": 1.0}}]}
        (work / "mergekit.json").write_text(json.dumps({**asked, "merge_method": "linear", "dtype": "bfloat16"}))
        cache = f"{work}/mergekit-cache"
        merged = [mergekit, f"{work}/mergekit.json", f"{work}/mergekit", "--no-copy-tokenizer", "--lora-merge-cache"]
        found["mergekit"] = ["/bin/sh", "-c", f"rm -rf {cache} && {' '.join(merged)} {cache}"]
    return found


def wrong(base: Base, work: Path, out: Path) -> float:
    """Share of a sample of weights that are not the float64 sum rounded once."""
    adapter, random, bad, seen = work / "adapter", np.random.default_rng(1), 0, 0
    merged = read_base(out)
    lora = read_safetensors(adapter / "adapter_model.safetensors")
    modules = sorted({n.removesuffix(".lora_A.weight") for n in lora if n.endswith("lora_A.weight")})
    for module in random.choice(modules, min(24, len(modules)), replace=False):
        name = f"{module.removeprefix('base_model.model.')}.weight"
        a, b = (lora[f"{module}.lora_{x}.weight"].astype(np.float64) for x in "AB")
        rows = np.sort(random.choice(b.shape[0], 64, replace=False))
        expected = encode(weights(base, name, rows) + ALPHA / RANK * (b[rows] @ a), "BF16")
        bad += int((expected != encode(weights(merged, name, rows), "BF16")).sum())
        seen += expected.size
    return bad / seen


def weights(model: Base, name: str, rows: np.ndarray) -> np.ndarray:
    info = model.tensor(name)
    assert info is not None
    every = np.memmap(
        model.path / model.location[name], np.uint8, "r", info.start, (info.shape[0], info.size // info.shape[0])
    )
    return decode(np.ascontiguousarray(every[rows]).reshape(-1), info.dtype).reshape(len(rows), -1)


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from controller.job.safetensors_header import read_header

    data = np.fromfile(path, np.uint8)
    return {n: data[i.start : i.end].view("<f4").reshape(i.shape) for n, i in read_header(path).tensors.items()}


def measure(size: str, arguments: argparse.Namespace) -> None:
    work = arguments.directory / size
    make(work, SHAPES[size], random_bits())
    base = read_base(work / "base")
    every = commands(work, arguments.ml_python, arguments.mergekit)
    runs: dict[str, list[Run]] = {name: [] for name in every}
    share: dict[str, float] = {}
    ratios: dict[str, list[float]] = {name: [] for name in every}
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "HF_HUB_OFFLINE": "1"}
    for number in range(arguments.rounds):
        for name, command in every.items():
            if name in SLOW and number >= arguments.slow_rounds:
                continue
            out = work / name.split(" ")[0]
            run = timed(command, work / "base", out, environment)
            runs[name].append(run)
            ratios[name].append(run.seconds / runs["cp + fsync"][-1].seconds)
            if name != "cp + fsync" and name not in share:
                share[name] = wrong(base, work, out)
            shutil.rmtree(out)
    print(f"\n{size}: {base.size / 1e9:.2f} GB in {len(base.shards)} files; load {os.getloadavg()[0]:.1f} at the end")
    print("| | seconds (median; best) | CPU seconds | x cp, median of rounds | peak MiB | wrong weights |")
    print("|---|---|---|---|---|---|")
    for name, found in runs.items():
        if found:
            print(
                f"| {name} | {statistics.median(r.seconds for r in found):.2f}; {min(r.seconds for r in found):.2f}"
                f" | {statistics.median(r.cpu_seconds for r in found):.2f}"
                f" | {statistics.median(ratios[name]):.2f} | {max(r.peak for r in found) >> 20}"
                f" | {share.get(name, 0):.2g} |"
            )
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--sizes", nargs="+", choices=SHAPES, default=["0.5B", "1B", "3B"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ml-python")
    parser.add_argument("--mergekit")
    parser.add_argument("--slow-rounds", type=int, default=1)
    arguments = parser.parse_args()
    for size in arguments.sizes:
        measure(size, arguments)


if __name__ == "__main__":
    main()
