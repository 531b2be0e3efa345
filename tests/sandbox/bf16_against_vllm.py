"""Runs with vLLM's Python: the sandbox's layers in float32 beside vLLM's own. Prints how far they are apart."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "sandbox" / "vllm"))
import vllm_bf16_in_float32 as ours
from vllm.lora.ops.torch_ops import bgmv_expand_slice, bgmv_shrink

ADAPTERS, RANK, WIDTH, OUT = 3, 8, 64, 48


def differences(indices: list[int], dtype: torch.dtype) -> dict[str, float]:
    """The largest, relative to the largest number, of each operation on tokens that belong to these adapters."""
    torch.manual_seed(0)
    tokens = torch.tensor(indices)
    punica = SimpleNamespace(is_prefill=False, no_lora=False, tokens_of=ours.tokens_of(tokens))
    x = torch.randn(len(indices), WIDTH).to(dtype)
    a = torch.randn(ADAPTERS, 1, RANK, WIDTH).to(dtype)
    b = torch.randn(ADAPTERS, 1, OUT, RANK).to(dtype)
    theirs, mine = torch.zeros(2, len(indices), RANK)
    bgmv_shrink(x, a, theirs, tokens, 0.5)
    ours._apply_shrink(punica, mine, x, a, 0.5)
    found = {"shrink": _difference(theirs, mine)}
    for add in (True, False):
        into = torch.randn(len(indices), OUT + 16).to(dtype)
        theirs_out, mine_out = into.clone(), into.clone()
        bgmv_expand_slice(theirs, b, theirs_out, tokens, 8, OUT, add)
        ours._apply_expand(punica, mine_out, theirs, b, 8, OUT, add)
        found[f"expand, add={add}"] = _difference(theirs_out, mine_out)
    layer = SimpleNamespace(weight=torch.randn(OUT, WIDTH).to(dtype))
    ours.dispatch_bfloat16(layer)
    bias = torch.randn(OUT).to(dtype)
    for name, of in (("linear", None), ("linear with a bias", bias)):
        expected = torch.nn.functional.linear(x, layer.weight, of)
        found[name] = _difference(expected, layer.cpu_linear(x, layer.weight, of))
    return found


def _difference(expected: torch.Tensor, got: torch.Tensor) -> float:
    assert expected.dtype == got.dtype and expected.shape == got.shape
    return float((expected.double() - got.double()).abs().max() / expected.double().abs().max())


batches = {"one adapter": [1, 1, 1], "several": [0, 2, 1, 2, 0, -1], "one token": [2]}
told = {
    f"{name}, {dtype}": differences(of, dtype)
    for name, of in batches.items()
    for dtype in (torch.float32, torch.bfloat16)
}
print(json.dumps(told))
