"""Everything that must be true of an adapter before vLLM may see it. Each check is named as a sentence.

vLLM answers 200 to an adapter of another base, with unknown layers, missing tensors or NaN, and NaN then
reaches the answers of other models through the KV cache. Must not know where the adapter came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from controller.job.adapter import CONFIG, WEIGHTS, Adapter, LoraModule, make_adapter
from controller.job.adapter_config import AdapterConfig, parse_config
from controller.job.base import Base, layer_of
from controller.job.contract import Stage
from controller.job.findings import Finding, some
from controller.job.floats import FLOATS, all_finite
from controller.job.reasons import Reason
from controller.job.safetensors_header import Header, HeaderError, TensorInfo, read_header
from controller.job.strict_json import read_object

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".pickle")


@dataclass(frozen=True)
class Subject:
    """What is judged, and against what. Without a base, nothing that needs one is checked."""

    adapter: Adapter
    base: Base | None
    max_lora_rank: int | None
    stage: Stage


Check = Callable[[Subject], Iterator[Finding]]


def check_adapter(
    path: Path, base: Base | None, max_lora_rank: int | None = None, stage: Stage = Stage.EXPERIMENTAL
) -> tuple[Adapter | None, tuple[Finding, ...]]:
    """The adapter in `path` and all that is wrong with it; None if it cannot even be read."""
    findings = [*file_is_of_another_format(path)]
    header, config = _header(path / WEIGHTS), _config(path / CONFIG)
    if isinstance(header, Finding):
        findings.append(header)
    if isinstance(config, list):
        findings += config
    if isinstance(header, Finding) or isinstance(config, list):
        return None, tuple(findings)
    adapter = make_adapter(path, config, header)
    subject = Subject(adapter, base, max_lora_rank, stage)
    findings += [finding for check in CHECKS for finding in check(subject)]
    return adapter, tuple(findings)


def file_is_of_another_format(path: Path) -> Iterator[Finding]:
    """Pickles run code when they are loaded; links may lead anywhere."""
    files = sorted(p for p in path.iterdir()) if path.is_dir() else []
    if pickles := [p.name for p in files if p.suffix in PICKLES]:
        yield Finding(
            Reason.UNSUPPORTED_FORMAT,
            f"{some(pickles)}: only safetensors is accepted; save it with safetensors",
        )
    for p in files:
        if p.is_symlink() and not p.resolve().is_relative_to(path.resolve()):
            yield Finding(Reason.UNSUPPORTED_FORMAT, f"{p.name} is a link that leads out of the adapter's directory")


def feature_is_not_servable(s: Subject) -> Iterator[Finding]:
    if s.adapter.config.unsupported:
        why = "vLLM cannot serve it dynamically"
        if s.stage is Stage.STABLE:
            why += " as the reference, and merge does not support it yet"
        yield Finding(Reason.NOT_SERVABLE_DYNAMICALLY, f"{'; '.join(s.adapter.config.unsupported)}: {why}")


def tensor_is_no_lora_of_a_linear_layer(s: Subject) -> Iterator[Finding]:
    if s.adapter.strays:
        yield Finding(
            Reason.NOT_SERVABLE_DYNAMICALLY,
            f"{some(s.adapter.strays)}: neither lora_A nor lora_B of a linear layer",
        )


def dtype_is_not_a_float(s: Subject) -> Iterator[Finding]:
    bad = {t.dtype for t in s.adapter.header.tensors.values() if t.dtype not in FLOATS}
    if bad:
        yield Finding(Reason.UNSUPPORTED_FORMAT, f"tensors of type {some(bad)}: use {some(FLOATS, 4)}")


def pair_is_incomplete(s: Subject) -> Iterator[Finding]:
    if not s.adapter.modules:
        yield Finding(Reason.INCOMPLETE_TENSORS, "there is no lora_A and no lora_B tensor")
    for letter, missing in (
        ("A", [m.name for m in s.adapter.modules.values() if m.a is None]),
        ("B", [m.name for m in s.adapter.modules.values() if m.b is None]),
    ):
        if missing:
            yield Finding(Reason.INCOMPLETE_TENSORS, f"lora_{letter} is missing for {some(missing)}")


def targeted_module_has_no_tensors(s: Subject) -> Iterator[Finding]:
    """PEFT saves every module that it targets, so a module of the base without tensors was lost."""
    config, modules = s.adapter.config, s.adapter.modules
    if s.base is not None:
        lost = [m for m in _linear_modules(s.base) if m not in modules and config.targets(m)]
        if lost and modules:
            yield Finding(Reason.INCOMPLETE_TENSORS, f"targeted, but without tensors: {some(lost)}")
    if modules and isinstance(config.target_modules, tuple):
        unused = [t for t in config.target_modules if not any(m == t or m.endswith(f".{t}") for m in modules)]
        if unused:
            yield Finding(Reason.INCOMPLETE_TENSORS, f"target_modules without any tensor: {some(unused)}")


def module_is_not_targeted(s: Subject) -> Iterator[Finding]:
    """vLLM would load it, PEFT would not: the two would not be the same model."""
    extra = [m for m in s.adapter.modules if not s.adapter.config.targets(m)]
    if extra:
        yield Finding(Reason.INVALID_CONFIG, f"tensors for modules that the config does not target: {some(extra)}")


def rank_differs_from_config(s: Subject) -> Iterator[Finding]:
    wrong = [m.name for m in s.adapter.modules.values() if not _rank_is(m, s.adapter.config.rank_of(m.name))]
    if wrong:
        m = s.adapter.modules[min(wrong)]
        shapes = f"A {m.a.shape if m.a else None}, B {m.b.shape if m.b else None}"
        expected = s.adapter.config.rank_of(m.name)
        yield Finding(
            Reason.INVALID_CONFIG,
            f"config says rank {expected} for {m.name}, tensors have {shapes} ({len(wrong)} such)",
        )


def rank_is_too_high(s: Subject) -> Iterator[Finding]:
    rank = max(s.adapter.rank, s.adapter.config.rank)
    if s.max_lora_rank is not None and rank > s.max_lora_rank:
        yield Finding(
            Reason.RANK_TOO_HIGH,
            f"rank {rank} is over the server's --max-lora-rank {s.max_lora_rank}: raise it or train a lower rank",
        )


def module_is_not_in_base(s: Subject) -> Iterator[Finding]:
    if s.base is None:
        return
    unknown = [m for m in s.adapter.modules if s.base.tensor(f"{m}.weight") is None]
    layers = s.base.layers
    beyond = [m for m in unknown if layers is not None and (layer_of(m) or 0) >= layers]
    if beyond:
        last = max(layer_of(m) or 0 for m in beyond)
        yield Finding(
            Reason.BASE_MISMATCH, f"layer {last} does not exist, the base has {layers} layers: {some(beyond)}"
        )
    if rest := sorted(set(unknown) - set(beyond)):
        yield Finding(Reason.BASE_MISMATCH, f"the base has no module {some(rest)}: trained on another base?")


def shape_does_not_fit_base(s: Subject) -> Iterator[Finding]:
    if s.base is None:
        return
    wrong: dict[str, str] = {}
    for m in s.adapter.modules.values():
        weight = s.base.tensor(f"{m.name}.weight")
        if weight is not None and not _fits(m, weight, s.adapter.config.fan_in_fan_out):
            wrong[m.name] = f"A {m.a.shape if m.a else None} and B {m.b.shape if m.b else None} on {weight.shape}"
    if wrong:
        first = min(wrong)
        yield Finding(
            Reason.BASE_MISMATCH,
            f"{first}: {wrong[first]} does not fit ({len(wrong)} such): trained on another base"
            f" ({s.adapter.config.base_model!r})?",
        )


def weight_is_not_finite(s: Subject) -> Iterator[Finding]:
    floats = [t for t in s.adapter.header.tensors.values() if t.dtype in FLOATS]
    if bad := [t.name for t in floats if not all_finite(s.adapter.raw(t), t.dtype)]:
        yield Finding(Reason.NON_FINITE_WEIGHTS, f"NaN or infinite: {some(bad)}")


CHECKS: tuple[Check, ...] = (
    feature_is_not_servable,
    tensor_is_no_lora_of_a_linear_layer,
    dtype_is_not_a_float,
    pair_is_incomplete,
    targeted_module_has_no_tensors,
    module_is_not_targeted,
    module_is_not_in_base,
    shape_does_not_fit_base,
    rank_differs_from_config,
    rank_is_too_high,
    weight_is_not_finite,
)


def _header(path: Path) -> Header | Finding:
    try:
        return read_header(path)
    except FileNotFoundError:
        return Finding(Reason.UNSUPPORTED_FORMAT, f"{path.name} is missing: only safetensors is accepted")
    except (HeaderError, OSError) as e:
        return Finding(Reason.UNSUPPORTED_FORMAT, f"{path.name}: {e}")


def _config(path: Path) -> AdapterConfig | list[Finding]:
    try:
        config, problems = parse_config(read_object(path, 1 << 20))
    except FileNotFoundError:
        problems, config = [f"{path.name} is missing: the directory is no PEFT adapter"], None
    except (ValueError, OSError) as e:
        problems, config = [str(e)], None
    return config or [Finding(Reason.INVALID_CONFIG, p) for p in problems]


def _linear_modules(base: Base) -> Iterator[str]:
    """Modules with a matrix, without the layers that transformers does not build (multi-token prediction)."""
    for info in base.tensors():
        layer = layer_of(info.name)
        beyond = base.layers is not None and layer is not None and layer >= base.layers
        if info.name.endswith(".weight") and len(info.shape) == 2 and not beyond:
            yield info.name.removesuffix(".weight")


def _rank_is(m: LoraModule, rank: int) -> bool:
    a = m.a is None or (len(m.a.shape) == 2 and m.a.shape[0] == rank)
    return a and (m.b is None or (len(m.b.shape) == 2 and m.b.shape[1] == rank))


def _fits(m: LoraModule, weight: TensorInfo, transposed: bool) -> bool:
    if len(weight.shape) != 2:
        return False
    out, inner = reversed(weight.shape) if transposed else weight.shape
    a = m.a is None or (len(m.a.shape) == 2 and m.a.shape[1] == inner)
    return a and (m.b is None or (len(m.b.shape) == 2 and m.b.shape[0] == out))
