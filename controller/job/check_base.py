"""Whether the base is one that adapters can be added to, and whether the adapter was made for it.

A name proves nothing, neither that two models are the same nor that they differ: names are only noted. Shapes,
layers and classes prove; they refuse. Must not know of tokenizers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from controller.job.adapter_files import COMPARED, is_readable
from controller.job.base import Base
from controller.job.contract import Use
from controller.job.findings import Finding, shown
from controller.job.reasons import Reason
from controller.job.strict_json import read_object
from controller.job.subject import Check, Subject

# Settings of a config.json that decide what the layers are. Another value is another model.
_STRUCTURE = (
    *("model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "vocab_size", "num_experts", "num_local_experts", "tie_word_embeddings"),
)
# Settings that change what the same weights compute.
_MEANING = ("rope_theta", "rope_scaling", "rope_parameters", "rms_norm_eps", "hidden_act", "sliding_window")
_HEADS = ("ForCausalLM", "ForConditionalGeneration")


def base_is_quantized(s: Subject) -> Iterator[Finding]:
    """Float8 weights have the shapes of the layer, so serving can be checked; others hide them."""
    if s.base is None or s.architecture is None or (how := s.architecture.quantization) is None:
        return
    hidden = next((m for m in s.adapter.modules if s.architecture.weight_of(m) is None), None)
    if s.use is not Use.SERVE:
        yield Finding(
            Reason.INVALID_BASE,
            f"the base is quantized ({how}): merge into its unquantized form, which is quantized after",
        )
    elif hidden is not None:
        yield Finding(
            Reason.INVALID_BASE,
            f"the base is quantized ({how}), so what {hidden} looks like cannot be checked: use the unquantized model",
        )


def base_is_of_another_class(s: Subject) -> Iterator[Finding]:
    """PEFT keeps the class that it wrapped when it was not told the task."""
    names = s.base.config.get("architectures") if s.base is not None else None
    trained = s.adapter.config.base_class
    if trained is None or not trained.endswith(_HEADS) or not isinstance(names, list) or not names:
        return
    if trained not in names and all(isinstance(n, str) and n.endswith(_HEADS) for n in names):
        yield Finding(
            Reason.BASE_MISMATCH, f"it was trained on a {shown(trained)} (auto_mapping), the base is {shown(names[0])}"
        )


def shipped_config_is_of_another_model(s: Subject) -> Iterator[Finding]:
    """Some trainers save the base's config.json beside the adapter."""
    if s.base is None:
        return
    try:
        shipped = _shipped(s)
    except ValueError as e:
        yield Finding(Reason.UNSUPPORTED_FORMAT, str(e))
        return
    differ = [f"{k} {shown(a)}, the base's {shown(b)}" for k, a, b in _differences(shipped, s.base.config, _STRUCTURE)]
    if differ:
        yield Finding(
            Reason.BASE_MISMATCH, f"the config.json beside the adapter is of another model: {'; '.join(differ)}"
        )


CHECKS: tuple[Check, ...] = (base_is_quantized, base_is_of_another_class, shipped_config_is_of_another_model)


def notes_of(s: Subject) -> Iterator[str]:
    """What is worth knowing of adapter and base, but proves nothing."""
    if s.base is None or s.architecture is None:
        return
    name, revision = s.adapter.config.base_model, s.adapter.config.revision
    known = _names_of(s.base)
    if name and not {_last(name)} & {_last(n) for n in known}:
        yield f"trained on {shown(name)}, the base is {' or '.join(sorted(known))}: is it the same model?"
    commit = s.base.path.name if s.base.path.parent.name == "snapshots" else None
    if revision and commit and len(revision) == len(commit) and revision != commit:
        yield f"trained on revision {shown(revision)}, the base is {commit}"
    if s.use is Use.SERVE and (how := s.architecture.quantization):
        yield f"the base is quantized ({how}): the adapter can be served, but not merged into it (stage: Stable)"
    try:
        shipped = _shipped(s)
    except ValueError:
        return
    for key, a, b in _differences(shipped, s.base.config, _MEANING):
        yield f"the config.json beside the adapter has {key} {shown(a)}, the base's {shown(b)} is used"


def _shipped(s: Subject) -> Mapping[str, Any]:
    path = s.adapter.path / COMPARED
    return read_object(path, 1 << 20) if is_readable(path) else {}


def _differences(
    shipped: Mapping[str, Any], base: Mapping[str, Any], keys: tuple[str, ...]
) -> Iterator[tuple[str, Any, Any]]:
    for key in keys:
        if key in shipped and key in base and shipped[key] != base[key]:
            yield key, shipped[key], base[key]


def _names_of(base: Base) -> set[str]:
    """What the base may be called: by its config, its directory, or its place in the Hub cache."""
    names = {base.path.resolve().name}
    if base.path.parent.name == "snapshots":
        names = {base.path.parents[1].name.removeprefix("models--").replace("--", "/")}
    said = base.config.get("_name_or_path")
    return names | ({said} if isinstance(said, str) and said else set())


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].lower()
