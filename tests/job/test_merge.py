"""Merging: exact to the last bit, for every variant of LoRA that is accepted."""

from __future__ import annotations

import json
import math
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.errors import PermanentError
from controller.job import layout
from controller.job.base import Base, read_base, read_raw, safetensors_dtype
from controller.job.check import check_adapter
from controller.job.contract import Use
from controller.job.floats import decode
from controller.job.merge import Weighted, merge, merged_size
from controller.job.merge_stream import merged_tensors
from controller.job.progress import Progress
from controller.job.store import digest_of, directory_digests
from tests.job import odd_models, tiny_models
from tests.job.test_floats import rounded_once
from tests.job.tiny_models import LINEARS, Tensors, lora_config, lora_tensors, write_safetensors


def values(base: Base, name: str) -> np.ndarray:
    info = base.tensor(name)
    assert info is not None
    return decode(read_raw(base.path / base.location[name], info), info.dtype).reshape(info.shape)


def raw(base: Base, name: str) -> bytes:
    info = base.tensor(name)
    assert info is not None
    return read_raw(base.path / base.location[name], info).tobytes()


def weighted(path: Path, base: Path, weight: float = 1.0) -> Weighted:
    adapter, findings = check_adapter(path, read_base(base))
    assert adapter is not None and findings == ()
    return Weighted(adapter, weight)


def merged(base: Path, adapters: list[Weighted], out: Path, dtype: str = "auto") -> Base:
    merge(read_base(base), adapters, out, dtype, Progress())
    return read_base(out)


def exactly(w: np.ndarray, deltas: list[tuple[float, np.ndarray, np.ndarray]], dtype: str) -> np.ndarray:
    """W + sum of factor * B A by rational arithmetic, then rounded once."""
    result = np.empty(w.shape)
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            total = Fraction(float(w[i, j]))
            for factor, b, a in deltas:
                dots = (Fraction(float(x)) * Fraction(float(y)) for x, y in zip(b[i], a[:, j], strict=True))
                total += Fraction(factor) * sum(dots, Fraction(0))
            result[i, j] = rounded_once(float(total), dtype)
    return result


def pair(tensors: Tensors, module: str) -> tuple[np.ndarray, np.ndarray]:
    key = f"base_model.model.{module}.lora"
    a, b = (tensors[f"{key}_{x}.weight"][1].astype(np.float32).astype(np.float64) for x in "AB")
    return b, a


VARIANTS: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "plain": ({}, {"model.layers.0.mlp.up_proj": 2.0, "model.layers.1.self_attn.k_proj": 2.0}),
    "rsLoRA": ({"use_rslora": True}, {"model.layers.0.mlp.up_proj": 8 / math.sqrt(4)}),
    "alpha by pattern": (
        {"alpha_pattern": {r"layers\.1\.mlp\..*": 3, "q_proj": 5}},
        {
            "model.layers.1.mlp.up_proj": 0.75,
            "model.layers.0.mlp.up_proj": 2.0,
            "model.layers.0.self_attn.q_proj": 1.25,
        },
    ),
}


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_merge_is_the_exact_sum_rounded_once(variant: str, dtype: str, tmp_path: Path) -> None:
    changes, scalings = VARIANTS[variant]
    base = tiny_models.base(tmp_path / "base", dtype=dtype)
    tensors = lora_tensors()
    adapter = tiny_models.adapter(tmp_path / "adapter", tensors, lora_config(**changes))
    result = merged(base, [weighted(adapter, base)], tmp_path / "out")
    for module, scaling in scalings.items():
        b, a = pair(tensors, module)
        expected = exactly(values(read_base(base), f"{module}.weight"), [(scaling, b, a)], dtype)
        np.testing.assert_array_equal(values(result, f"{module}.weight"), expected)


def test_rank_by_pattern_decides_the_scaling(tmp_path: Path) -> None:
    base = tiny_models.base(tmp_path / "base")
    tensors = {
        k: (d, (v[:2] if "lora_A" in k else v[:, :2]) if "up_proj" in k else v) for k, (d, v) in lora_tensors().items()
    }
    adapter = tiny_models.adapter(tmp_path / "adapter", tensors, lora_config(rank_pattern={"up_proj": 2}))
    result = merged(base, [weighted(adapter, base)], tmp_path / "out")
    b, a = pair(tensors, "model.layers.0.mlp.up_proj")
    expected = exactly(values(read_base(base), "model.layers.0.mlp.up_proj.weight"), [(4.0, b, a)], "BF16")
    np.testing.assert_array_equal(values(result, "model.layers.0.mlp.up_proj.weight"), expected)


def test_weights_stored_as_in_by_out_get_the_transpose(tmp_path: Path) -> None:
    base = tiny_models.base(tmp_path / "base")
    tensors = {
        k: v for k, v in lora_tensors().items() if "q_proj" in k
    }  # square, so that only the arithmetic tells the difference
    adapter = tiny_models.adapter(
        tmp_path / "adapter", tensors, lora_config(fan_in_fan_out=True, target_modules=["q_proj"])
    )
    result = merged(base, [weighted(adapter, base)], tmp_path / "out")
    name = "model.layers.0.self_attn.q_proj"
    b, a = pair(tensors, name)
    expected = exactly(values(read_base(base), f"{name}.weight").T, [(2.0, b, a)], "BF16").T
    np.testing.assert_array_equal(values(result, f"{name}.weight"), expected)


def test_two_adapters_are_added_before_the_rounding(tmp_path: Path) -> None:
    base = tiny_models.base(tmp_path / "base")
    one, two = lora_tensors(seed=1), lora_tensors(seed=2, rank=2)
    adapters = [
        weighted(tiny_models.adapter(tmp_path / "one", one), base, 0.75),
        weighted(tiny_models.adapter(tmp_path / "two", two, lora_config(2)), base, -0.5),
    ]
    result = merged(base, adapters, tmp_path / "out")
    module = "model.layers.1.mlp.down_proj"
    deltas = [(1.5, *pair(one, module)), (-1.0, *pair(two, module))]
    expected = exactly(values(read_base(base), f"{module}.weight"), deltas, "BF16")
    np.testing.assert_array_equal(values(result, f"{module}.weight"), expected)


def test_what_no_adapter_touches_is_the_same_bytes(tmp_path: Path) -> None:
    path = tiny_models.base(tmp_path / "base", shards=3)
    result = merged(path, [weighted(tiny_models.adapter(tmp_path / "a"), path)], tmp_path / "out")
    base = read_base(path)
    assert set(result.shards) == set(base.shards)
    changed = {n for n in base.location if raw(base, n) != raw(result, n)}
    assert changed == {f"model.layers.{i}.{m}.weight" for i in range(2) for m in LINEARS}
    assert (tmp_path / "out" / "config.json").read_bytes() == (path / "config.json").read_bytes()


def test_blocks_do_not_change_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_models.base(tmp_path / "base")
    adapter = weighted(tiny_models.adapter(tmp_path / "a"), path)
    whole = merged(path, [adapter], tmp_path / "whole")
    monkeypatch.setattr(layout, "BLOCK_BYTES", 7 * 64)  # seven rows of q_proj at a time
    monkeypatch.setattr(layout, "COPY_BYTES", 100)
    blocks = merged(path, [adapter], tmp_path / "blocks")
    assert all(raw(whole, n) == raw(blocks, n) for n in whole.location)


def test_another_dtype_converts_what_has_the_bases_dtype_only(tmp_path: Path) -> None:
    path = tiny_models.base(tmp_path / "base", dtype="F32")
    result = merged(path, [weighted(tiny_models.adapter(tmp_path / "a"), path)], tmp_path / "out", "bfloat16")
    assert {t.dtype for t in result.tensors()} == {"BF16"}
    assert result.dtype == "BF16"
    assert result.size == merged_size(read_base(path), "bfloat16")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_finished_shard_is_not_made_again(tmp_path: Path) -> None:
    path = tiny_models.base(tmp_path / "base", shards=3)
    adapter = weighted(tiny_models.adapter(tmp_path / "a"), path)
    merged(path, [adapter], tmp_path / "out")
    shards = sorted((tmp_path / "out").glob("*.safetensors"))
    before = [s.read_bytes() for s in shards]
    for s in shards:
        os.utime(s, (1, 1))
    shards[1].unlink()
    Path(f"{shards[1]}.partial").write_bytes(b"half")  # as a job that was killed leaves it
    merged(path, [adapter], tmp_path / "out")
    assert [s.read_bytes() for s in shards] == before
    assert [s.stat().st_mtime == 1 for s in shards] == [True, False, True]
    assert not list((tmp_path / "out").glob("*.partial"))


def test_a_finished_shard_that_is_not_this_one_is_made_again(tmp_path: Path) -> None:
    path = tiny_models.base(tmp_path / "base", shards=3)
    adapter = weighted(tiny_models.adapter(tmp_path / "a"), path)
    merged(path, [adapter], tmp_path / "out")
    shards = sorted((tmp_path / "out").glob("*.safetensors"))
    before = [s.read_bytes() for s in shards]
    shards[0].write_bytes(before[0][:-1])  # cut off
    shards[1].write_bytes(before[1].replace(b"BF16", b"F16 "))  # another header
    merged(path, [adapter], tmp_path / "out")
    assert [s.read_bytes() for s in shards] == before


def test_one_thread_and_many_write_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "BLOCK_BYTES", 200)
    path = tiny_models.base(tmp_path / "base", shards=2)
    adapter = weighted(tiny_models.adapter(tmp_path / "a"), path)
    digests = set()
    for threads in (1, 2, 8):
        out = tmp_path / str(threads)
        merge(read_base(path), [adapter], out, "auto", Progress(), threads)
        digests.add(digest_of(directory_digests(out)))
    assert len(digests) == 1


def test_a_tensor_can_be_had_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "BLOCK_BYTES", 200)
    path = tiny_models.base(tmp_path / "base")
    adapter = weighted(tiny_models.adapter(tmp_path / "a"), path)
    result = merged(path, [adapter], tmp_path / "out")
    for tensor in merged_tensors(read_base(path), [adapter], "auto", Progress()):
        out = np.empty(len(raw(result, tensor.name)), np.uint8)
        tensor.fill(out)
        assert out.tobytes() == raw(result, tensor.name)


def test_progress_counts_what_is_written_and_what_was_there(tmp_path: Path) -> None:
    path = tiny_models.base(tmp_path / "base", shards=3)
    adapter = weighted(tiny_models.adapter(tmp_path / "a"), path)
    merged(path, [adapter], tmp_path / "out")
    shards = sorted((tmp_path / "out").glob("*.safetensors"))
    sizes = [s.stat().st_size for s in shards]
    shards[2].unlink()
    progress = Progress()
    merge(read_base(path), [adapter], tmp_path / "out", "auto", progress)
    state = progress.state()
    assert (state.done, state.total, state.bytes) == (sum(sizes), sum(sizes), sizes[2])


def test_a_nan_that_no_adapter_touches_stays_where_it_is(tmp_path: Path) -> None:
    path = tiny_models.base(tmp_path / "base")
    name = "model.layers.0.input_layernorm.weight"
    info = read_base(path).tensor(name)
    assert info is not None
    with (path / "model.safetensors").open("r+b") as f:
        f.seek(info.start)
        f.write(b"\xc1\x7f")
    result = merged(path, [weighted(tiny_models.adapter(tmp_path / "a"), path)], tmp_path / "out")
    assert raw(result, name)[:2] == b"\xc1\x7f"


def test_every_file_can_be_read_by_another_user(tmp_path: Path) -> None:
    path = tiny_models.base(tmp_path / "base")
    merged(path, [weighted(tiny_models.adapter(tmp_path / "a"), path)], tmp_path / "out")
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "out").iterdir()} == {0o644}


def test_weights_that_overflow_are_refused(tmp_path: Path) -> None:
    path = tiny_models.base(tmp_path / "base", dtype="F16")
    adapter = weighted(tiny_models.adapter(tmp_path / "a", config=lora_config(lora_alpha=1e9)), path)
    with pytest.raises(PermanentError, match=r"model\.layers\.\d\.\S+ is not finite .* too large for F16") as e:
        merged(path, [adapter], tmp_path / "out")
    assert e.value.reason == "NonFiniteWeights"
    assert not list((tmp_path / "out").glob("*"))


def test_weights_in_other_formats_are_left_behind(tmp_path: Path) -> None:
    path = tiny_models.base(tmp_path / "base")
    for name in ("pytorch_model.bin", "consolidated.safetensors", ".hidden", "pytorch_model.bin.index.json"):
        (path / name).write_bytes(b"x")
    (path / "original").mkdir()
    merged(path, [weighted(tiny_models.adapter(tmp_path / "a"), path)], tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"config.json", "tokenizer.json", "model.safetensors"}


def test_a_text_model_learns_of_a_new_vocabulary_and_of_untied_embeddings(tmp_path: Path) -> None:
    """vLLM makes Gemma 3's text model of text_config alone."""
    shapes = {n: s for n, s in odd_models.LLAMA.items() if n != "lm_head.weight"}
    config = {"tie_word_embeddings": True, "text_config": {"model_type": "x"}}
    path = odd_models.base_of(tmp_path / "base", shapes, config=config)
    v, h = odd_models.V + 2, odd_models.H
    tensors = odd_models.tensor("model.embed_tokens.weight", v, h) | odd_models.tensor("lm_head.weight", v, h, value=2)
    tensors |= odd_models.lora_on({odd_models.Q0: (h, h)})
    adapter = tiny_models.adapter(tmp_path / "a", tensors, lora_config(target_modules=["q_proj"]))
    parsed = check_adapter(adapter, read_base(path), use=Use.MERGE)[0]
    assert parsed is not None
    merged(path, [Weighted(parsed)], tmp_path / "out")
    said = json.loads((tmp_path / "out" / "config.json").read_text())
    expected = {"vocab_size": v, "tie_word_embeddings": False}
    assert said["text_config"] == {"model_type": "x", **expected}
    assert {key: said[key] for key in expected} == expected


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_weights_are_converted_though_the_config_is_wrong_about_them(dtype: str, tmp_path: Path) -> None:
    path = tiny_models.base(tmp_path / "base", dtype="F32", config={"dtype": None, "torch_dtype": "bfloat16"})
    result = merged(path, [weighted(tiny_models.adapter(tmp_path / "a"), path)], tmp_path / "out", dtype)
    assert {t.dtype for t in result.tensors()} == {safetensors_dtype(dtype)}
    assert result.named_dtype == safetensors_dtype(dtype)
    assert result.size == merged_size(read_base(path), dtype)


def test_of_two_dtypes_with_as_many_bytes_the_config_names_that_of_the_weights(tmp_path: Path) -> None:
    path = odd_models.base_of(tmp_path / "base", {}, config={"dtype": "float16"})
    one = np.ones((4, 4))
    write_safetensors(path / "model.safetensors", {"a": ("BF16", one), "b": ("F16", one)})
    assert read_base(path).dtype == "F16"
