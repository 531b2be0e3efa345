"""Runs in the ML environment (no pytest there): tiny models of several families, built with every method.

python -m tests.job.quantizing make DIR                      bases, an adapter for each
python -m tests.job.quantizing build DIR FAMILY SPEC...      builds each SPEC ("AWQ W4A16 32"); JSON by SPEC on stdout
"""

from __future__ import annotations

import json
import sys
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
                **common, **experts, intermediate_size=256, moe_intermediate_size=128, num_experts=4, norm_topk_prob=True
            ),
        ),
    }


def make(directory: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
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


def _contract(models: Path, spec: str) -> Any:
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
        store=str(models / "store"),
        base=BaseReference(model=str(models / "base"), name="tiny"),
        adapters=(
            AdapterInput(
                name="finetune", version="v1", digest=digest_of(directory_digests(adapter)), path=str(adapter)
            ),
        ),
        quantization=Quantization.model_validate(asked),
    )


def _cosine(one: Path, other: Path) -> float:
    import torch
    from transformers import AutoModelForCausalLM

    ids = torch.arange(4, 64).reshape(2, 30)
    with torch.no_grad():
        a, b = (AutoModelForCausalLM.from_pretrained(m, dtype=torch.float32)(ids).logits for m in (one, other))
    return float(torch.cosine_similarity(a, b, dim=-1).mean())


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    else:
        build(Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
