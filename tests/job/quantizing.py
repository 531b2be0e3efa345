"""Runs in the ML environment (no pytest there): tiny models of several families, built with every method.

python -m tests.job.quantizing make DIR                      bases, an adapter for each
python -m tests.job.quantizing build DIR FAMILY SPEC...      builds each SPEC ("AWQ W4A16 32"); JSON by SPEC on stdout
python -m tests.job.quantizing killed DIR STORE              builds FP8 in STORE, and kills itself while it saves
python -m tests.job.quantizing finished DIR STORE            the same without the kill; JSON on stdout
python -m tests.job.quantizing refused DIR WHAT              says how a build with something wrong ends, as JSON
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.job.ml_models import _tokenizer

SIZES = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def _families() -> dict[str, Any]:
    import transformers as t

    vocabulary = len(_tokenizer())
    common = SIZES | {"vocab_size": vocabulary, "tie_word_embeddings": False}
    experts = {"num_experts_per_tok": 2, "head_dim": 32}
    return {
        "llama": (t.LlamaForCausalLM, t.LlamaConfig(**common, intermediate_size=256)),
        "mixtral": (
            t.MixtralForCausalLM,
            t.MixtralConfig(**common, **experts, intermediate_size=128, num_local_experts=4),
        ),
        "qwen3_moe": (
            t.Qwen3MoeForCausalLM,
            t.Qwen3MoeConfig(
                **common,
                **experts,
                intermediate_size=256,
                moe_intermediate_size=128,
                num_experts=4,
                norm_topk_prob=True,
            ),
        ),
    }


def make(directory: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    _make_one_that_sees(directory / "gemma3")
    for family, (cls, config) in _families().items():
        model = cls(config).to(torch.bfloat16)
        model.save_pretrained(directory / family / "base", max_shard_size="300KB")
        _tokenizer().save_pretrained(directory / family / "base")
        targets = LINEARS if family == "llama" else LINEARS[:4]
        adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", target_modules=targets))
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.data = torch.randn(weight.shape).to(weight.dtype) * 0.02
        adapted.save_pretrained(directory / family / "adapter")


def _make_one_that_sees(directory: Path) -> None:
    import torch
    import transformers as t

    text = SIZES | {"vocab_size": len(_tokenizer()), "head_dim": 32, "intermediate_size": 256}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = t.Gemma3Config(
        text_config=text, vision_config=vision | {"image_size": 32, "patch_size": 8}, mm_tokens_per_image=4
    )
    t.Gemma3ForConditionalGeneration(config).to(torch.bfloat16).save_pretrained(directory)
    _tokenizer().save_pretrained(directory)


def build(directory: Path, family: str, specs: list[str]) -> None:
    from controller.job.build import run_build
    from controller.job.progress import Progress

    models = directory / family
    results = {}
    for spec in ["None", *specs]:
        states: list[tuple[str, int, int, str]] = []
        progress = Progress()
        advance = progress.advance

        def told(n: int = 1, advance: Any = advance, progress: Progress = progress, states: Any = states) -> None:
            advance(n)
            s = progress.state()
            states.append((s.stage, s.done, s.total, s.unit))

        progress.advance = told  # type: ignore[method-assign]
        result = run_build(_contract(models, spec), progress)
        results[spec] = {
            "path": result.path,
            "quantization": result.provenance.quantization,
            "layers": [s for s in states if s[0] == "quantize"],
        }
    reference = Path(results["None"]["path"])
    for result in results.values():
        result["cosine"] = _cosine(reference, Path(result["path"]))
    print(json.dumps(results))


def finished(directory: Path, store: Path) -> None:
    from controller.job.build import run_build
    from controller.job.progress import Progress

    store.mkdir(exist_ok=True)
    print(run_build(_contract(directory / "llama", "FP8", store), Progress()).to_json())


def killed(directory: Path, store: Path) -> None:
    from controller.job import quantize

    quantize._finish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    finished(directory, store)


def refused(directory: Path, what: str) -> None:
    from controller.errors import PermanentError
    from controller.job.build import run_build
    from controller.job.progress import Progress

    models = Path(tempfile.mkdtemp(dir=directory))
    shutil.copytree(directory / "llama", models, ignore=shutil.ignore_patterns("store"), dirs_exist_ok=True)
    progress, stages = Progress(), []
    progress.stage = lambda name, *_, **__: stages.append(name)  # type: ignore[method-assign]
    contract = _contract(models, "AWQ W4A16 32")
    config = json.loads((models / "base" / "config.json").read_text())
    if what == "an unknown architecture":
        config |= {"model_type": "made_up", "architectures": ["MadeUpForCausalLM"]}
    elif what == "an architecture that AWQ does not know":
        config |= {"model_type": "phi", "architectures": ["PhiForCausalLM"]}
    elif what == "short calibration data":
        (models / "calibration.jsonl").write_text('{"text": "hi"}\n' * 16)
    elif what == "no chat template":
        (models / "base" / "chat_template.jinja").unlink()
    (models / "base" / "config.json").write_text(json.dumps(config))
    try:
        _without_a_tensor(models / "base") if what == "a missing tensor" else run_build(contract, progress)
    except PermanentError as e:
        stages = [s for s in stages if s not in ("preflight", "digest")]
        print(json.dumps({"reason": e.reason, "message": str(e), "stages": stages}))


def _without_a_tensor(base: Path) -> None:
    from controller.job.base import read_base
    from controller.job.merge_stream import merged_tensors
    from controller.job.merged_model import from_tensors
    from controller.job.progress import Progress

    every = merged_tensors(read_base(base), [], "auto", Progress())
    from_tensors((t for t in every if t.name != "model.layers.1.mlp.up_proj.weight"), base, base)


def _contract(models: Path, spec: str, store: Path | None = None) -> Any:
    from controller.job.contract import AdapterInput, BaseReference, BuildContract, Quantization, Release
    from controller.job.store import digest_of, directory_digests

    data = models / "calibration.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": f"ticket {i} about the bill"}], "expected": "billing"}
        for i in range(16)
    ]
    data.write_text("".join(json.dumps(r) + "\n" for r in rows))
    method, *rest = spec.split()
    asked: dict[str, Any] = {"method": None if method == "None" else method}
    asked |= dict(zip(("scheme", "groupSize"), rest, strict=False))
    if "groupSize" in asked:
        asked["groupSize"] = int(asked["groupSize"])
    if method not in ("None", "FP8"):
        asked["calibration"] = {"path": str(data), "root": str(models), "samples": 16, "sequenceLength": 64}
    adapter = models / "adapter"
    return BuildContract(
        release=Release(namespace="llm", name="bot"),
        store=str(store or models / "store"),
        base=BaseReference(model=str(models / "base"), name="tiny"),
        adapters=(
            AdapterInput(
                name="finetune", version="v1", digest=digest_of(directory_digests(adapter)), path=str(adapter)
            ),
        ),
        quantization=Quantization.model_validate(asked),
    )


def _cosine(one: Path, other: Path) -> float:
    """Of the logits. Weights are decoded here: transformers cannot load quantized experts, vLLM can."""
    import torch

    ids = torch.arange(4, 64).reshape(2, 30)
    with torch.no_grad():
        a, b = (_decoded(directory)(ids).logits for directory in (one, other))
    return float(torch.cosine_similarity(a, b, dim=-1).mean())


def _decoded(directory: Path) -> Any:
    import torch
    import transformers
    from safetensors.torch import load_file

    stored: dict[str, Any] = {}
    for file in directory.glob("*.safetensors"):
        stored |= load_file(file)
    weights = {}
    for name, value in stored.items():
        module, _, kind = name.rpartition(".")
        if kind == "weight_packed":
            weights[f"{module}.weight"] = _unpacked(stored, module)
        elif kind == "weight" and f"{module}.weight_scale" in stored:
            weights[name] = value.float() * stored[f"{module}.weight_scale"].float()
        elif not kind.startswith("weight_"):
            weights[name] = value.float()
    config = transformers.AutoConfig.from_pretrained(directory)
    if config.model_type == "mixtral":  # llm-compressor names its experts as other models do, and vLLM reads both
        names = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
        weights = {re.sub("(gate|up|down)_proj", lambda found: names[found[0]], k): v for k, v in weights.items()}
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    cls = getattr(transformers, config.architectures[0])
    return cls.from_pretrained(None, config=config, state_dict=weights, dtype=torch.float32).eval()


def _unpacked(stored: dict[str, Any], module: str) -> Any:
    """int4 by eights in an int32, lowest bits first, 8 stands for 0; zero points along the outputs."""
    import torch

    def nibbles(packed: Any) -> Any:
        return torch.stack([(packed >> (4 * i)) & 15 for i in range(8)], dim=-1)

    scale = stored[f"{module}.weight_scale"].float()
    values = nibbles(stored[f"{module}.weight_packed"]).flatten(-2).float()
    groups = values.reshape(values.shape[0], scale.shape[1], -1)
    zero: Any = 8.0
    if f"{module}.weight_zero_point" in stored:
        packed = stored[f"{module}.weight_zero_point"]
        zero = nibbles(packed).permute(0, 2, 1).reshape(-1, packed.shape[1])[: len(groups), :, None].float()
    return ((groups - zero) * scale[:, :, None]).reshape(values.shape)


COMMANDS = {"make": make, "killed": killed, "finished": finished}

if __name__ == "__main__":
    command, where, *rest = sys.argv[1:]
    if command == "build":
        build(Path(where), rest[0], rest[1:])
    elif command == "refused":
        refused(Path(where), *rest)
    else:
        COMMANDS[command](Path(where), *map(Path, rest))
