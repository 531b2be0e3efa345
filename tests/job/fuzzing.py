"""Adapters that nobody would write: any bytes, and good adapters with something changed, for Hypothesis to choose from.

What a check may do with them is find something or nothing. Used by test_check_fuzz.py and by bench/fuzz.py.
"""

from __future__ import annotations

import hashlib
import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from controller.job.base import Base
from controller.job.check import examine
from controller.job.contract import Use
from controller.job.reasons import Reason
from controller.job.safetensors_header import encode_header, size_of
from tests.job.odd_models import Q0, H
from tests.job.tiny_models import lora_config

Files = dict[str, bytes]
TENSORS = [
    (f"base_model.model.{Q0}.lora_A.weight", "F32", (4, H)),
    (f"base_model.model.{Q0}.lora_B.weight", "F32", (H, 4)),
]
GOOD: Files = {
    "adapter_config.json": json.dumps(lora_config(target_modules=["q_proj"])).encode(),
    "adapter_model.safetensors": encode_header(TENSORS, {}) + bytes(2 * 4 * H * 4),
}
_TOKENIZER = {"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 2, "content": "<c>"}], "eos_token": "<c>"}
TOKENIZERS: Files = {
    "tokenizer.json": json.dumps(_TOKENIZER).encode(),
    "tokenizer_config.json": json.dumps(
        {"added_tokens_decoder": {"2": {"content": "<c>"}}, "chat_template": "x"}
    ).encode(),
    "added_tokens.json": b'{"<c>": 2}',
    "chat_template.json": b'{"chat_template": "x"}',
    "config.json": b'{"model_type": "llama", "num_hidden_layers": 1}',
}

texts = st.text(max_size=12) | st.sampled_from(
    ["q_proj", "all-linear", ".*", "(a+)+$", "(", "none", "all", "pissa", "\0", "{1}"]
)
numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 1, 2, 4, 1 << 31, 1 << 64, 10**400, 1e308])
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=8
)
settings = st.sampled_from(
    [
        *lora_config(),
        *("exclude_modules", "layers_to_transform", "layers_pattern", "lora_bias", "trainable_token_indices"),
        *("ensure_weight_tying", "auto_mapping", "revision", "layer_replication", "loftq_config", "unheard_of"),
    ]
)
_parts = st.sampled_from(
    [
        *("model", "layers", "0", "1", "9", "self_attn", "q_proj", "qkv_proj", "mlp", "experts", "lm_head", "norm"),
        *("embed_tokens", "language_model", "lora_A", "lora_B", "weight", "bias", "lora_embedding_A", "base_layer"),
        *("lora_embedding_B", "lora_magnitude_vector", "token_adapter", "trainable_tokens_delta", "modules_to_save"),
        *("original_module", "base_model", "", "q_projx", "\n"),
    ]
)
_modules = st.sampled_from([Q0, "lm_head", "model.embed_tokens", "model.norm", "model.layers.0.mlp.up_proj", "x"])
names = st.builds(
    lambda module, rest: ".".join(["base_model.model", module, *rest]), _modules, st.lists(_parts, max_size=3)
) | st.lists(_parts, max_size=6).map(".".join)
shapes = st.lists(st.sampled_from([0, 1, 2, 4, 8, H, 48, 64]), max_size=3).map(tuple)
dtypes = st.sampled_from(["F32", "BF16", "F16", "F64", "I8", "F8_E4M3", "BOOL"])


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


def _cut_or_changed(content: bytes) -> st.SearchStrategy[bytes]:
    """`content` with some bytes replaced, taken out or put in."""
    places = st.integers(0, len(content))
    return st.builds(
        lambda start, length, new: content[:start] + new + content[start + length :],
        places,
        st.integers(0, 16),
        st.binary(max_size=16),
    )


def _with_setting(content: bytes) -> st.SearchStrategy[bytes]:
    """The JSON object with some of its names set to something else."""
    document = json.loads(content)
    known = st.sampled_from(sorted(document)) if document else texts
    return st.dictionaries(known | texts, values, max_size=3).map(lambda changes: _json(document | changes))


configs = (
    st.dictionaries(settings, values, min_size=1, max_size=3).map(
        lambda changes: _json(lora_config(target_modules=["q_proj"]) | changes)
    )
    | st.dictionaries(settings | texts, values, max_size=6).map(_json)
    | values.map(_json)
    | _cut_or_changed(GOOD["adapter_config.json"])
)


@st.composite
def tensor_files(draw: st.DrawFn) -> bytes:
    """Sound files with any names, types, shapes and numbers."""
    chosen = draw(st.dictionaries(names, st.tuples(dtypes, shapes), max_size=4))
    tensors = [*(TENSORS if draw(st.booleans()) else []), *((n, d, s) for n, (d, s) in chosen.items())]
    tensors = list({t[0]: t for t in tensors}.values())
    size = sum(size_of(d, s) for _, d, s in tensors)
    pattern = draw(st.sampled_from([b"\0", b"\x3f", b"\xff\x7f", b"\0\0\x80\x3f"]) | st.binary(min_size=1, max_size=8))
    return encode_header(tensors, {}) + (pattern * (size // len(pattern) + 1))[:size]


def _header_file(document: Any, data: bytes) -> bytes:
    text = document if isinstance(document, bytes) else _json(document)
    return struct.pack("<Q", len(text)) + text + data


_entries = st.fixed_dictionaries(
    {
        "dtype": dtypes | values,
        "shape": st.lists(st.integers(-1, 8) | st.sampled_from([1 << 40, 1 << 62]), max_size=4) | values,
        "data_offsets": st.lists(st.integers(-1, 64), min_size=2, max_size=2) | values,
    }
)
weights = (
    tensor_files()
    | _cut_or_changed(GOOD["adapter_model.safetensors"][:400])
    | st.builds(_header_file, st.dictionaries(names, _entries | values, max_size=4), st.binary(max_size=64))
    | st.builds(_header_file, st.binary(max_size=64), st.binary(max_size=16))
    | st.builds(lambda n, rest: struct.pack("<Q", n) + rest, st.integers(0, (1 << 64) - 1), st.binary(max_size=32))
    | st.binary(max_size=64)
)


@st.composite
def adapters(draw: st.DrawFn) -> Files:
    """The files of one adapter: a good one, with one, two or three of them changed."""
    files = dict(GOOD)
    if draw(st.booleans()):
        files["adapter_config.json"] = draw(configs)
    if draw(st.booleans()):
        files["adapter_model.safetensors"] = draw(weights)
    for name in draw(st.lists(st.sampled_from(sorted(TOKENIZERS)), max_size=2, unique=True)):
        files[name] = draw(_with_setting(TOKENIZERS[name]) | _cut_or_changed(TOKENIZERS[name]) | values.map(_json))
    return files


def variants(files: Files, count: int) -> Iterator[Files]:
    """`files`, and `count` copies with a little changed at random: cheap beside what Hypothesis takes to choose."""
    yield files
    seed = b"".join(files[name] for name in sorted(files))
    chance = random.Random(hashlib.sha256(seed).digest())  # so the same example fails again
    for _ in range(count):
        name = chance.choice(sorted(files))
        change = _another_value if name.endswith(".json") and chance.random() < 0.7 else _other_bytes
        yield files | {name: change(files[name], chance)}


def _other_bytes(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(min(len(changed), 600) + 1)
        if changed[start : start + 1].isalnum():  # often enough, the JSON around it stays sound
            changed[start] = chance.choice(b"0123456789abqAB")
        else:
            changed[start : start + chance.choice((0, 1, 4))] = chance.randbytes(chance.choice((0, 1, 4)))
    return bytes(changed)


def _another_value(content: bytes, chance: random.Random) -> bytes:
    """The JSON object with one of its values changed, at any depth."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return _other_bytes(content, chance)
    place = document
    while isinstance(place, dict) and place:
        key = chance.choice(sorted(place))
        if not isinstance(place[key], dict) or chance.random() < 0.3:
            place[key] = chance.choice(_ODD)
            break
        place = place[key]
    return _json(document)


_ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 4, 8, 1 << 40, 10**30, 0.5, -2.5, 1e308, "", "none", "all", "pissa", "q_proj"),
    *("all-linear", ".*", r"(?=(?:\w|[a-z]|\.)+!).*", [], {}, [0], [1, 7], ["q_proj"], ["lm_head"], {"q_proj": 4}),
    *({"x": [1]}, {"q_.*": 2, "(": 1}, [["q_proj"]], {"a": 60}, {"60": {"content": "x"}}),
]


def carry_out(directory: Path, base: Base, files: Files, use: Use) -> int:
    """Checks one adapter; how much was found. Whatever is raised, and whatever is no finding, is a bug."""
    for path in directory.iterdir():
        path.unlink()
    for name, content in files.items():
        (directory / name).write_bytes(content)
    report = examine(directory, base, 16, use)
    for finding in report.findings:
        assert isinstance(finding.reason, Reason)
        assert 0 < len(finding.message) < 2000
    assert all(isinstance(note, str) and len(note) < 2000 for note in report.notes)
    assert report.findings or report.adapter is not None
    return len(report.findings)
