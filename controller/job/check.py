"""Everything that must be true of an adapter before anybody uses it. Each check is named as a sentence.

vLLM answers 200 to an adapter of another base, with unknown layers, missing tensors or NaN, and NaN then
reaches the answers of other models through the KV cache. Must not know where the adapter came from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from controller.job import check_base, check_saved, check_tokenizer
from controller.job.adapter import CONFIG, WEIGHTS, Adapter, LoraModule, make_adapter
from controller.job.adapter_config import AdapterConfig, parse_config
from controller.job.adapter_files import file_is_of_another_format, is_readable, left_behind, left_behind_note
from controller.job.architecture import core_of
from controller.job.base import Base
from controller.job.changes import Weighted
from controller.job.contract import Use
from controller.job.findings import Finding, RejectedError, shown, some
from controller.job.fit import changes_of
from controller.job.floats import FLOATS, all_finite
from controller.job.patterns import PatternError
from controller.job.reasons import Reason
from controller.job.safetensors_header import Header, HeaderError, TensorInfo, read_header
from controller.job.strict_json import read_object
from controller.job.subject import Check, Subject

MAX_CONFIG_BYTES = 4 << 20
MAX_HEADER_BYTES = 16 << 20  # of a hundred thousand tensors
BLOCK = 8 << 20


@dataclass(frozen=True)
class Report:
    """`findings` refuse the adapter, `notes` are what its owner should know. `adapter` is None if it is unreadable.

    `merge_only` says what vLLM cannot serve dynamically, and a merge can take in.
    """

    adapter: Adapter | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    merge_only: tuple[str, ...] = ()


def check_adapter(
    path: Path, base: Base | None, max_lora_rank: int | None = None, use: Use = Use.SERVE
) -> tuple[Adapter | None, tuple[Finding, ...]]:
    """The adapter in `path` and all that is wrong with it; None if it cannot even be read."""
    report = examine(path, base, max_lora_rank, use)
    return report.adapter, report.findings


def examine(path: Path, base: Base | None, max_lora_rank: int | None = None, use: Use = Use.SERVE) -> Report:
    """All that can be said of the adapter in `path`. Raises OSError if its files cannot be read."""
    findings = [*file_is_of_another_format(path)]
    header, config = _header(path / WEIGHTS), _config(path / CONFIG)
    findings += [header] if isinstance(header, Finding) else []
    findings += config if isinstance(config, list) else []
    if isinstance(header, Finding) or isinstance(config, list):
        return Report(None, tuple(findings))
    subject = Subject(make_adapter(path, config, header), base, max_lora_rank, use)
    merge_only = _merge_only(subject)
    if use is Use.EITHER:
        subject = replace(subject, use=Use.MERGE if merge_only else Use.SERVE)
    findings += [finding for check in CHECKS for finding in _carried_out(check, subject)]
    tokenizer, notes = check_tokenizer.compare(subject)
    notes = [*check_base.notes_of(subject), *notes, *left_behind_note(left_behind(path))]
    findings = list(dict.fromkeys([*findings, *tokenizer]))
    findings = findings or [*_carried_out(merge_refuses_it, subject)]
    return Report(subject.adapter, tuple(findings), tuple(notes), merge_only)


def _carried_out(check: Check, subject: Subject) -> Iterator[Finding]:
    try:
        yield from check(subject)
    except PatternError as e:
        yield Finding(Reason.INVALID_CONFIG, str(e))


def feature_is_not_supported(s: Subject) -> Iterator[Finding]:
    for feature in s.adapter.config.unsupported:
        yield Finding(
            Reason.NOT_SERVABLE_DYNAMICALLY, f"{feature}; vLLM cannot serve it dynamically, and it cannot be merged"
        )


def feature_can_only_be_merged(s: Subject) -> Iterator[Finding]:
    features = _merge_only(s)
    if features and s.use is Use.SERVE:
        yield Finding(
            Reason.NOT_SERVABLE_DYNAMICALLY,
            f"{'; '.join(features)}: vLLM cannot serve this dynamically; it can be merged: set stage: Stable",
        )


def _merge_only(s: Subject) -> tuple[str, ...]:
    return (*s.adapter.config.merge_only, *check_saved.merge_only(s))


def dtype_is_not_a_float(s: Subject) -> Iterator[Finding]:
    bad = {t.dtype for t in s.adapter.header.tensors.values() if t.dtype not in FLOATS}
    if bad:
        yield Finding(Reason.UNSUPPORTED_FORMAT, f"tensors of type {some(bad)}: use {some(FLOATS, 4)}")


def pair_is_incomplete(s: Subject) -> Iterator[Finding]:
    modules = [*s.adapter.modules.values(), *s.adapter.embeddings.values()]
    if not modules:
        yield Finding(Reason.INCOMPLETE_TENSORS, "there is no lora_A and no lora_B tensor")
    for letter, missing in (
        ("A", [m.name for m in modules if m.a is None]),
        ("B", [m.name for m in modules if m.b is None]),
    ):
        if missing:
            yield Finding(Reason.INCOMPLETE_TENSORS, f"lora_{letter} is missing for {some(missing)}")


def targeted_module_has_no_tensors(s: Subject) -> Iterator[Finding]:
    """PEFT saves every module that it targets, so a module of the base without tensors was lost."""
    config, modules = s.adapter.config, s.adapter.modules.keys() | s.adapter.embeddings.keys()
    if s.architecture is not None and modules:
        there = modules | {core_of(m) for m in modules}  # named otherwise is not lost
        lost = [
            m
            for m in s.architecture.linear_modules()
            if m not in modules and core_of(m) not in there and config.targets(m)
        ]
        if lost:
            yield Finding(Reason.INCOMPLETE_TENSORS, f"targeted, but without tensors: {some(lost)}")
    if modules and isinstance(config.target_modules, tuple):
        unused = [t for t in config.target_modules if not any(m == t or m.endswith(f".{t}") for m in modules)]
        if unused:
            yield Finding(Reason.INCOMPLETE_TENSORS, f"target_modules without any tensor: {some(unused)}")


def module_is_not_targeted(s: Subject) -> Iterator[Finding]:
    """vLLM would load it, PEFT would not: the two would not be the same model."""
    config, modules = s.adapter.config, [*s.adapter.modules, *s.adapter.embeddings]
    extra = [m for m in modules if not config.targets(m) and not _is_tied_along(s, m)]
    if extra:
        yield Finding(Reason.INVALID_CONFIG, f"tensors for modules that the config does not target: {some(extra)}")


def rank_differs_from_config(s: Subject) -> Iterator[Finding]:
    modules = {**s.adapter.modules, **s.adapter.embeddings}
    wrong = [m.name for m in modules.values() if not _rank_is(m, s.adapter.config.rank_of(m.name))]
    if wrong:
        m = modules[min(wrong)]
        shapes = f"A {m.a.shape if m.a else None}, B {m.b.shape if m.b else None}"
        expected = s.adapter.config.rank_of(m.name)
        yield Finding(
            Reason.INVALID_CONFIG,
            f"config says rank {expected} for {some([m.name])}, tensors have {shapes} ({len(wrong)} such)",
        )


def rank_is_too_high(s: Subject) -> Iterator[Finding]:
    """vLLM compares every rank of the config, also one that no module has."""
    rank = max(s.adapter.rank, s.adapter.config.rank, *s.adapter.config.rank_pattern.values())
    if s.max_lora_rank is not None and s.use is Use.SERVE and rank > s.max_lora_rank:
        yield Finding(
            Reason.RANK_TOO_HIGH,
            f"rank {rank} is over the server's --max-lora-rank {s.max_lora_rank}: raise it or train a lower rank",
        )


def module_is_not_in_base(s: Subject) -> Iterator[Finding]:
    if s.architecture is None:
        return
    reasons: dict[str, list[str]] = {}
    for m in [*s.adapter.modules, *s.adapter.embeddings]:
        if s.architecture.weight_of(m) is None:
            why = s.architecture.why_missing(m)
            reasons.setdefault(why.replace(m, ""), []).append(m)
    for modules in reasons.values():
        first = min(modules)
        more = f" ({some(modules)})" if len(modules) > 1 else ""
        yield Finding(Reason.BASE_MISMATCH, f"{s.architecture.why_missing(first)}{more}")


def shape_does_not_fit_base(s: Subject) -> Iterator[Finding]:
    if s.architecture is None:
        return
    transposed = s.adapter.config.fan_in_fan_out
    weights = {m: w for m in s.adapter.modules if (w := s.architecture.weight_of(m)) is not None}
    if other := [m for m, weight in weights.items() if len(weight.shape) != 2]:
        yield Finding(
            Reason.BASE_MISMATCH, f"{some(other)}: no linear layer, its weight is {weights[min(other)].shape}"
        )
    if not transposed and (stored := [m for m in weights if s.architecture.is_transposed(m)]):
        yield Finding(
            Reason.INVALID_CONFIG, f"{some(stored)}: the base stores it as (in, out), so fan_in_fan_out must be true"
        )
        return
    linear = {m: w for m, w in weights.items() if m not in other}
    if wrong := [m for m, weight in linear.items() if not _fits(s.adapter.modules[m], weight, transposed)]:
        m = s.adapter.modules[min(wrong)]
        shapes = f"A {m.a.shape if m.a else None} and B {m.b.shape if m.b else None} on {linear[m.name].shape}"
        yield Finding(
            Reason.BASE_MISMATCH,
            f"{some([m.name])}: {shapes}{', transposed by fan_in_fan_out,' * transposed} does not fit"
            f" ({len(wrong)} such): trained on another base ({shown(s.adapter.config.base_model)})?",
        )


def weight_is_not_finite(s: Subject) -> Iterator[Finding]:
    floats = [t for t in s.adapter.header.tensors.values() if t.dtype in FLOATS and t.size]
    if not floats:
        return
    data = np.memmap(s.adapter.path / WEIGHTS, np.uint8, "r")  # once: there may be a hundred thousand tensors
    if bad := [t.name for t in floats if not _is_finite(data[t.start : t.end], t.dtype)]:
        yield Finding(Reason.NON_FINITE_WEIGHTS, f"NaN or infinite: {some(bad)}")


def merge_refuses_it(s: Subject) -> Iterator[Finding]:
    """The last word on what can be merged is the merge's own, which reads headers only."""
    if s.base is not None and s.use is Use.MERGE:
        try:
            changes_of(s.base, [Weighted(s.adapter)])
        except RejectedError as e:
            yield from e.findings


CHECKS: tuple[Check, ...] = (
    feature_is_not_supported,
    feature_can_only_be_merged,
    *check_base.CHECKS,
    dtype_is_not_a_float,
    pair_is_incomplete,
    targeted_module_has_no_tensors,
    module_is_not_targeted,
    module_is_not_in_base,
    shape_does_not_fit_base,
    *check_saved.CHECKS,
    rank_differs_from_config,
    rank_is_too_high,
    weight_is_not_finite,
)


def _header(path: Path) -> Header | Finding:
    if not path.exists():
        return Finding(Reason.UNSUPPORTED_FORMAT, f"{path.name} is missing: only safetensors is accepted")
    try:
        if not is_readable(path):
            raise HeaderError("not read, since it is no regular file in the adapter's directory")
        if path.stat().st_size < 1024 and path.read_bytes().startswith(b"version https://git-lfs"):
            raise HeaderError("a Git LFS pointer, not the file itself: git lfs pull")
        return read_header(path, MAX_HEADER_BYTES)
    except (HeaderError, OSError) as e:
        return Finding(Reason.UNSUPPORTED_FORMAT, f"{path.name}: {e}")


def _config(path: Path) -> AdapterConfig | list[Finding]:
    if not path.exists():
        return [Finding(Reason.INVALID_CONFIG, f"{path.name} is missing: the directory is no PEFT adapter")]
    try:
        if not is_readable(path):
            raise ValueError(f"{path.name}: not read, since it is no regular file in the adapter's directory")
        config, problems = parse_config(read_object(path, MAX_CONFIG_BYTES))
    except (ValueError, OSError) as e:
        problems, config = [str(e)], None
    return config or [Finding(Reason.INVALID_CONFIG, p) for p in problems]


def _is_finite(raw: NDArray[np.uint8], dtype: str) -> bool:
    """By blocks: a saved embedding may be as large as memory."""
    return all(all_finite(raw[start : start + BLOCK], dtype) for start in range(0, raw.size, BLOCK))


def _is_tied_along(s: Subject, module: str) -> bool:
    """Whether PEFT adapts the output layer because it adapts the embedding that is tied to it."""
    tied = s.architecture is not None and s.architecture.is_tied_output(module)
    return tied and s.adapter.config.ensure_weight_tying


def _rank_is(m: LoraModule, rank: int) -> bool:
    a = m.a is None or (len(m.a.shape) == 2 and m.a.shape[0] == rank)
    return a and (m.b is None or (len(m.b.shape) == 2 and m.b.shape[1] == rank))


def _fits(m: LoraModule, weight: TensorInfo, transposed: bool) -> bool:
    out, inner = reversed(weight.shape) if transposed else weight.shape
    a = m.a is None or (len(m.a.shape) == 2 and m.a.shape[1] == inner)
    return a and (m.b is None or (len(m.b.shape) == 2 and m.b.shape[0] == out))
