"""What an adapter brings beside A and B of linear layers: magnitudes, biases, embeddings, tokens, whole tensors.

vLLM loads none of it, a merge takes all of it in; so every tensor must be one that the config asks for and that
the base has a place for. Must not know how they are merged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from controller.job.architecture import Architecture
from controller.job.findings import Finding, some
from controller.job.module_names import is_embedding, is_sense, is_vocabulary, suffixes
from controller.job.reasons import Reason
from controller.job.safetensors_header import TensorInfo
from controller.job.subject import Check, Subject


def merge_only(s: Subject) -> Iterator[str]:
    """What the tensors, not the config, say that only a merge can take in.

    vLLM has a layer for a LoRA on an embedding, but only in some models, and never with a vocabulary of another size.
    Without --enable-tower-connector-lora it answers 200 to a LoRA on a vision tower, and leaves it out.
    """
    if s.adapter.embeddings:
        yield f"a LoRA on an embedding ({some(s.adapter.embeddings)})"
    if s.architecture is not None and (tied := [m for m in s.adapter.modules if s.architecture.is_tied_output(m)]):
        yield f"a LoRA on a tied output layer ({some(tied)})"
    if senses := [m for m in s.adapter.modules if is_sense(m)]:
        yield f"a LoRA on what sees or hears ({some(senses)})"
    if whole := [n for n in s.adapter.saved if not _is_configured(s, n)]:
        yield f"whole tensors ({some(whole)})"


def tensor_is_unknown(s: Subject) -> Iterator[Finding]:
    if s.adapter.unknown:
        yield Finding(
            Reason.INVALID_CONFIG, f"{some(s.adapter.unknown)}: no tensor of PEFT's LoRA, nobody knows what it does"
        )


def magnitudes_do_not_fit(s: Subject) -> Iterator[Finding]:
    modules = s.adapter.modules.keys() | s.adapter.embeddings.keys()
    yield from _as_configured(
        s.adapter.magnitudes, modules, s.adapter.config.use_dora, "lora_magnitude_vector", "use_dora"
    )
    for name, info in s.adapter.magnitudes.items():
        weight = s.architecture.weight_of(name) if s.architecture is not None else None
        if weight is not None and len(weight.shape) == 2:
            transposed = s.adapter.config.fan_in_fan_out or name in s.adapter.embeddings
            yield from _shape(f"{name}.lora_magnitude_vector", info, (weight.shape[transposed],))


def lora_biases_do_not_fit(s: Subject) -> Iterator[Finding]:
    config, biases = s.adapter.config, s.adapter.lora_biases
    yield from _as_configured(biases, s.adapter.modules.keys(), config.lora_bias, "lora_B.bias", "lora_bias")
    for name, info in biases.items():
        if s.base is None or s.architecture is None or s.architecture.weight_of(name) is None:
            continue
        bias = s.base.tensor(f"{name}.bias")
        if bias is None:
            yield Finding(
                Reason.BASE_MISMATCH, f"{name}.lora_B.bias: the base's {name} has no bias that it could be added to"
            )
        else:
            yield from _shape(f"{name}.lora_B.bias", info, bias.shape)


def embedding_does_not_fit(s: Subject) -> Iterator[Finding]:
    if plain := [m for m in s.adapter.modules if is_embedding(m) and _is_matrix(s, m)]:
        yield Finding(
            Reason.INVALID_CONFIG, f"lora_A and lora_B for {some(plain)}: PEFT writes lora_embedding_A and _B there"
        )
    for m in s.adapter.embeddings.values():
        if not is_embedding(m.name):
            yield Finding(Reason.INVALID_CONFIG, f"lora_embedding for {m.name}, which is no embedding")
        weight = s.architecture.weight_of(m.name) if s.architecture is not None else None
        weight = s.adapter.saved.get(f"{m.name}.weight", weight) if weight is not None else None
        if weight is None or len(weight.shape) != 2:
            continue
        rank = s.adapter.config.rank_of(m.name)
        if m.a is not None:
            yield from _shape(f"{m.name}.lora_embedding_A", m.a, (rank, weight.shape[0]))
        if m.b is not None:
            yield from _shape(f"{m.name}.lora_embedding_B", m.b, (weight.shape[1], rank))


def tokens_do_not_fit(s: Subject) -> Iterator[Finding]:
    configured = s.adapter.config.trainable_tokens
    for name, rows in configured.items():
        if not any(name in suffixes(m) for m in s.adapter.tokens):
            yield Finding(Reason.INCOMPLETE_TENSORS, f"trainable_token_indices names {name}, but no tokens are saved")
        if s.vocabulary is not None and rows and max(rows) >= s.vocabulary:
            yield Finding(
                Reason.BASE_MISMATCH, f"token {max(rows)} was trained, the embedding holds {s.vocabulary} tokens only"
            )
    for module, info in s.adapter.tokens.items():
        rows = next((r for name, r in configured.items() if name in suffixes(module)), ())
        if not rows:
            yield Finding(
                Reason.INVALID_CONFIG, f"trained tokens of {module}: trainable_token_indices does not name it"
            )
            continue
        weight = s.architecture.weight_of(module) if s.architecture is not None else None
        if s.architecture is not None and weight is None:
            yield Finding(Reason.BASE_MISMATCH, f"trained tokens of {module}: {s.architecture.why_missing(module)}")
        elif weight is not None and len(weight.shape) == 2:
            yield from _shape(f"{module}.token_adapter.trainable_tokens_delta", info, (len(rows), weight.shape[1]))


def saved_tensor_does_not_fit(s: Subject) -> Iterator[Finding]:
    extra = [n for n in s.adapter.saved if not (_is_configured(s, n) or _is_vocabulary(n))]
    if extra:
        yield Finding(
            Reason.INVALID_CONFIG, f"whole tensors that neither modules_to_save nor bias names: {some(extra)}"
        )
    if s.base is None or s.architecture is None:
        return
    for name, info in s.adapter.saved.items():
        place = s.base.tensor(name) or _tied_place(s.architecture, name)
        if place is None:
            yield Finding(Reason.BASE_MISMATCH, f"the base has no tensor {some([name])} that this one could replace")
        elif not _is_vocabulary(name) or len(info.shape) != 2 or info.shape[1:] != place.shape[1:]:
            yield from _shape(name, info, place.shape)


def saved_tensor_is_missing(s: Subject) -> Iterator[Finding]:
    config = s.adapter.config
    if s.base is None or s.architecture is None or not (config.modules_to_save or config.bias != "none"):
        return
    built = [n for n in s.base.location if s.architecture.is_built(n)]
    if lost := [n for n in built if n not in s.adapter.saved and _must_be_saved(s, n)]:
        yield Finding(Reason.INCOMPLETE_TENSORS, f"to be saved by modules_to_save or bias, but missing: {some(lost)}")
    names = [*built, *s.adapter.saved]
    unused = [m for m in config.modules_to_save if not any(p.endswith(m) for n in names for p in _parents(n))]
    if unused:
        yield Finding(Reason.BASE_MISMATCH, f"modules_to_save names {some(unused)}, the base has no such module")


CHECKS: tuple[Check, ...] = (
    tensor_is_unknown,
    magnitudes_do_not_fit,
    lora_biases_do_not_fit,
    embedding_does_not_fit,
    tokens_do_not_fit,
    saved_tensor_does_not_fit,
    saved_tensor_is_missing,
)


def _as_configured(
    tensors: Mapping[str, TensorInfo], modules: AbstractSet[str], configured: bool, what: str, setting: str
) -> Iterator[Finding]:
    if tensors and not configured:
        yield Finding(Reason.INVALID_CONFIG, f"{what} for {some(tensors)}, but {setting} is not set")
    elif configured and (lost := modules - tensors.keys()):
        yield Finding(Reason.INCOMPLETE_TENSORS, f"{setting} is set, but {what} is missing for {some(lost)}")
    if lonely := tensors.keys() - modules:
        yield Finding(Reason.INCOMPLETE_TENSORS, f"{what} for {some(lonely)}, which has no lora_A and lora_B")


def _is_matrix(s: Subject, module: str) -> bool:
    weight = s.architecture.weight_of(module) if s.architecture is not None else None
    return weight is not None and len(weight.shape) == 2


def _shape(name: str, info: TensorInfo, expected: tuple[int, ...]) -> Iterator[Finding]:
    if info.shape != expected:
        yield Finding(Reason.BASE_MISMATCH, f"{some([name])} is {info.shape}, the base needs {expected}")


def _is_configured(s: Subject, tensor: str) -> bool:
    names = s.adapter.config.modules_to_save
    # PEFT compares ends of names: "norm" is also every post_attention_layernorm
    return (bool(names) and any(p.endswith(names) for p in _parents(tensor))) or _is_trained_bias(s, tensor)


def _is_trained_bias(s: Subject, tensor: str) -> bool:
    if not tensor.endswith(".bias") or s.adapter.config.bias == "none":
        return False
    return s.adapter.config.bias == "all" or tensor.removesuffix(".bias") in s.adapter.modules


def _must_be_saved(s: Subject, tensor: str) -> bool:
    module = tensor.rpartition(".")[0]
    if s.architecture is not None and s.architecture.is_tied_output(module):
        return False  # PEFT saves the one that it was trained as
    return _is_configured(s, tensor)


def _is_vocabulary(tensor: str) -> bool:
    return tensor.endswith(".weight") and is_vocabulary(tensor.removesuffix(".weight"))


def _tied_place(architecture: Architecture, tensor: str) -> TensorInfo | None:
    return architecture.weight_of(tensor.removesuffix(".weight")) if tensor.endswith(".weight") else None


def _parents(tensor: str) -> Iterator[str]:
    """Every module that the tensor lies in."""
    parts = tensor.split(".")
    return (".".join(parts[:n]) for n in range(1, len(parts)))
