"""Fits adapters to a base: which tensors they change and how, and every reason why they cannot be merged.

Every module gets the change that the live adapter makes to it, as PEFT 0.21 computes it. So a base whose output
embedding is tied to the input embedding is untied when the two no longer are the same; PEFT's own merge adds
a LoRA on one of them to both. Reads headers only. Must not know how weights are computed or files written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from controller.job.adapter import WEIGHTS, Adapter, LoraModule
from controller.job.base import Base, safetensors_dtype
from controller.job.changes import Change, Changes, LowRank, Magnitude, Rows, Source, Weighted
from controller.job.embeddings import embeddings_of, served_tied_only
from controller.job.findings import Finding, RejectedError, some
from controller.job.floats import FLOATS
from controller.job.reasons import Reason
from controller.job.safetensors_header import TensorInfo

COMPARED = 1 << 20


@dataclass
class _Draft:
    """A change in the making."""

    source: Source | None = None
    addends: list[LowRank] = field(default_factory=list)
    magnitude: Magnitude | None = None
    rows: Rows | None = None


def changes_of(base: Base, adapters: Sequence[Weighted], dtype: str = "auto") -> Changes:
    """The changes; reads headers only. Raises RejectedError if the adapters cannot be merged into this base."""
    _raise([*_base_is_quantized(base), *_adapters_cannot_be_combined(adapters)])
    drafts = _Drafts(base)
    for weighted in adapters:
        drafts.add(weighted)
    _raise(drafts.problems)
    untied = drafts.untie()
    drafts.check_vocabulary()
    _raise(drafts.problems)
    return Changes(drafts.shards(dtype), untied, drafts.vocab_size)


def merged_dtype(base: Base, info: TensorInfo, dtype: str) -> str:
    """The dtype that a tensor of the base has after the merge.

    Only what is stored in the base's own dtype is converted: what somebody keeps in another one, a router
    in float32, is so for a reason.
    """
    if dtype == "auto" or info.dtype != base.dtype or info.dtype not in FLOATS:
        return info.dtype
    return safetensors_dtype(dtype)


class _Drafts:
    """Collects what adapters do, by tensor, and what is wrong with it."""

    def __init__(self, base: Base) -> None:
        self.problems: list[Finding] = []
        self.vocab_size: int | None = None
        self._base = base
        self._embeddings = embeddings_of(base)
        self._drafts: dict[str, _Draft] = {}

    def add(self, weighted: Weighted) -> None:
        adapter = weighted.adapter
        for name, info in sorted(adapter.saved.items()):
            self._save(name, Source(adapter.path / WEIGHTS, info))
        for module in adapter.modules.values():
            self._add_lora(weighted, module, embedding=False)
        for module in adapter.embeddings.values():
            self._add_lora(weighted, module, embedding=True)
        for name, info in sorted(adapter.lora_biases.items()):
            self._add_bias(weighted, name, info)
        for name, info in sorted(adapter.tokens.items()):
            self._replace_rows(adapter, name, info)
        lost = adapter.magnitudes.keys() - adapter.modules.keys() - adapter.embeddings.keys()
        self.problems += [_incomplete(f"lora_magnitude_vector without lora_A and lora_B: {some(lost)}")] if lost else []
        unknown = adapter.unknown
        self.problems += [Finding(Reason.UNSUPPORTED_FORMAT, f"unknown tensors: {some(unknown)}")] if unknown else []

    def untie(self) -> bool:
        """Decides what becomes of tied embeddings: one tensor still, or two from now on."""
        tie = self._embeddings
        if tie is None or not tie.tied or not {tie.input, tie.head} & self._drafts.keys():
            return False
        one, other = (self._drafts.get(name) or _Draft() for name in (tie.input, tie.head))
        if one.rows is not None and other.rows is None:
            other.rows = one.rows  # PEFT trains the rows of both as one
        if _alike(one, other):
            self._drafts[tie.input] = one
            self._drafts.pop(tie.head, None)
            if tie.head_is_stored:
                self._drafts[tie.head] = other
            return False
        if kind := served_tied_only(self._base):
            self._wrong(
                f"vLLM serves {kind} with tied embeddings only, and the adapter changes {tie.input} and {tie.head}"
                " in different ways: train it with ensure_weight_tying"
            )
        self._drafts[tie.head] = other
        return True

    def check_vocabulary(self) -> None:
        """Input and output embedding have a row for each token, and config.json says how many."""
        names = self._embeddings
        if names is None:
            return
        before, after = self._target(names.input), self._source(names.input)
        has_head = names.head_is_stored or names.head in self._drafts
        head = self._source(names.head) if has_head else None
        if before is None or after is None:
            return
        if head is not None and head.info.shape[0] != after.info.shape[0]:
            self.problems.append(
                _incomplete(
                    f"{names.input} has {after.info.shape[0]} rows and {names.head} {head.info.shape[0]}: save both"
                    " (save_embedding_layers=True)"
                )
            )
        self.vocab_size = after.info.shape[0] if after.info.shape != before.info.shape else None

    def shards(self, dtype: str) -> dict[str, tuple[Change, ...]]:
        shards = {}
        for shard, header in self._base.shards.items():
            names = list(header.tensors)
            tie = self._embeddings
            if tie is not None and not tie.head_is_stored and tie.input in names and tie.head in self._drafts:
                names.append(tie.head)
            shards[shard] = tuple(self._change(name, dtype) for name in names)
        return shards

    def _change(self, name: str, dtype: str) -> Change:
        draft, target, source = self._drafts.get(name, _Draft()), self._target(name), self._source(name)
        if target is None or source is None:
            raise AssertionError(f"{name} is no tensor of the base")
        to = merged_dtype(self._base, target.info, dtype)
        return Change(name, source, to, tuple(draft.addends), draft.magnitude, draft.rows)

    def _target(self, name: str) -> Source | None:
        """A tensor of the base. A tied output embedding that is not stored is the input embedding."""
        tie = self._embeddings
        if tie is not None and tie.tied and not tie.head_is_stored and name == tie.head:
            name = tie.input
        info = self._base.tensor(name)
        return None if info is None else Source(self._base.path / self._base.location[name], info)

    def _source(self, name: str) -> Source | None:
        """What the changes to a tensor start from: what the adapter saved, or the base's."""
        draft = self._drafts.get(name)
        return draft.source if draft is not None and draft.source is not None else self._target(name)

    def _draft(self, name: str) -> _Draft:
        return self._drafts.setdefault(name, _Draft())

    def _save(self, name: str, source: Source) -> None:
        target = self._target(name)
        if target is None:
            self._wrong(f"the base has no tensor {name}, which the adapter saved")
            return
        names = self._embeddings
        embedding = names is not None and name in (names.input, names.head)
        shape, expected = source.info.shape, target.info.shape
        if shape != expected and not (embedding and shape[1:] == expected[1:]):
            self._wrong(f"{name}: saved as {list(shape)}, the base has {list(expected)}")
        elif target.info.dtype not in FLOATS or source.info.dtype not in FLOATS:
            self._wrong(f"{name}: {source.info.dtype} cannot replace {target.info.dtype}")
        else:
            self._draft(name).source = source

    def _add_lora(self, weighted: Weighted, module: LoraModule, embedding: bool) -> None:
        adapter, name = weighted.adapter, f"{module.name}.weight"
        source = self._source(name)
        if module.a is None or module.b is None:
            self.problems.append(_incomplete(f"lora_A or lora_B is missing for {module.name}"))
            return
        if source is None:
            self._wrong(f"the base has no module {module.name}")
            return
        transposed = self._is_transposed(adapter, module, source.info, embedding)
        if transposed is None or source.info.dtype not in FLOATS:
            self._wrong(
                f"{module.name}: A {list(module.a.shape)} and B {list(module.b.shape)} do not fit the base's"
                f" {list(source.info.shape)} of {source.info.dtype}"
            )
            return
        factor = weighted.weight * adapter.config.scaling_of(module.name)
        a, b = (Source(adapter.path / WEIGHTS, info) for info in (module.a, module.b))
        draft = self._draft(name)
        draft.addends.append(LowRank(a, b, factor, transposed))
        self._set_magnitude(draft, adapter, module.name, source.info.shape, of_columns=transposed)

    def _is_transposed(self, adapter: Adapter, module: LoraModule, weight: TensorInfo, embedding: bool) -> bool | None:
        """Whether the weight has the layout (in, out); None if A and B do not fit it at all.

        PEFT takes fan_in_fan_out for a Conv1D only: a Linear in the same model is not transposed.
        """
        a, b = (info.shape if info is not None else () for info in (module.a, module.b))
        if len(a) != 2 or len(b) != 2 or a[0] != b[1]:
            return None
        product = (b[0], a[1])
        if product[::-1] == weight.shape and (embedding or adapter.config.fan_in_fan_out):
            return True
        return False if product == weight.shape and not embedding else None

    def _set_magnitude(
        self, draft: _Draft, adapter: Adapter, module: str, shape: tuple[int, ...], of_columns: bool
    ) -> None:
        info = adapter.magnitudes.get(module)
        if info is None:
            if adapter.config.use_dora:
                self.problems.append(_incomplete(f"lora_magnitude_vector is missing for {module}"))
        elif info.shape != (shape[1 if of_columns else 0],):
            self._wrong(f"{module}: lora_magnitude_vector {list(info.shape)} does not fit {list(shape)}")
        else:
            draft.magnitude = Magnitude(Source(adapter.path / WEIGHTS, info), of_columns)

    def _add_bias(self, weighted: Weighted, module: str, info: TensorInfo) -> None:
        name, adapter = f"{module}.bias", weighted.adapter
        source = self._source(name)
        if source is None or source.info.shape != info.shape or source.info.dtype not in FLOATS:
            had = "none" if source is None else f"{list(source.info.shape)} of {source.info.dtype}"
            self._wrong(f"{module}: lora_bias {list(info.shape)} needs a bias in the base, which has {had}")
            return
        factor = weighted.weight * adapter.config.scaling_of(module)
        self._draft(name).addends.append(LowRank(None, Source(adapter.path / WEIGHTS, info), factor, False))

    def _replace_rows(self, adapter: Adapter, module: str, info: TensorInfo) -> None:
        tokens = adapter.config.trainable_tokens
        indices = next((i for m, i in tokens.items() if module == m or module.endswith(f".{m}")), None)
        if indices is None and len(tokens) == 1:
            indices = next(iter(tokens.values()))  # a plain list is about the input embedding, whatever its name
        source = self._source(f"{module}.weight")
        if source is None or len(source.info.shape) != 2 or source.info.dtype not in FLOATS:
            self._wrong(f"the base has no embedding {module}")
        elif indices is None or info.shape != (len(indices), source.info.shape[1]):
            self._wrong(f"{module}: rows {list(info.shape)} do not fit trainable_token_indices and the base")
        elif max(indices, default=0) >= source.info.shape[0] or len(set(indices)) < len(indices):
            self._wrong(f"{module}: trainable_token_indices has a token twice, or one that the base has not")
        else:
            self._draft(f"{module}.weight").rows = Rows(Source(adapter.path / WEIGHTS, info), indices)

    def _wrong(self, message: str) -> None:
        self.problems.append(Finding(Reason.BASE_MISMATCH, message))


def _base_is_quantized(base: Base) -> Iterator[Finding]:
    """Weights of 8 bits and fewer have scales beside them: adding to the numbers alone would be nonsense."""
    if small := [t.name for t in base.tensors() if t.dtype.startswith(("F8", "F6", "F4"))]:
        yield Finding(
            Reason.INVALID_BASE,
            f"{some(small)}: {len(small)} tensors are of 8 bits or fewer; merge into the unquantized model",
        )


def _adapters_cannot_be_combined(adapters: Sequence[Weighted]) -> Iterator[Finding]:
    """Sums of plain LoRA are defined; sums of replaced tensors, rows or lengths are not."""
    for number, weighted in enumerate(adapters, 1):
        adapter = weighted.adapter
        more = {"DoRA": adapter.magnitudes, "saved tensors": adapter.saved, "trained tokens": adapter.tokens}
        if (len(adapters) > 1 or weighted.weight != 1) and (found := [what for what, has in more.items() if has]):
            yield Finding(
                Reason.UNSUPPORTED_COMBINATION,
                f"adapter {number} ({adapter.path.name}) has {' and '.join(found)}: it can only be merged alone and"
                " with weight 1",
            )


def _incomplete(message: str) -> Finding:
    return Finding(Reason.INCOMPLETE_TENSORS, message)


def _alike(one: _Draft, other: _Draft) -> bool:
    if (one.addends, one.magnitude, one.rows) != (other.addends, other.magnitude, other.rows):
        return False
    if one.source is None or other.source is None:
        return one.source is other.source
    a, b = one.source.info, other.source.info
    return (a.dtype, a.shape) == (b.dtype, b.shape) and same_bytes(one.source, other.source)


def same_bytes(one: Source, other: Source) -> bool:
    """Whether two tensors of one size hold the same."""
    with one.path.open("rb") as a, other.path.open("rb") as b:
        a.seek(one.info.start)
        b.seek(other.info.start)
        left = one.info.size
        while left and (block := a.read(min(left, COMPARED))) and block == b.read(len(block)):
            left -= len(block)
    return not left


def _raise(problems: Sequence[Finding]) -> None:
    if problems:
        raise RejectedError(problems)
