"""What became of each example of a suite: counted, and kept word for word where adapter and artifact differ.

Must not know how anything is asked, nor where it is kept.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.job.chat import Answer
from controller.job.contract import Suite
from controller.job.evaluation import Change, ChangedExample, Count, Message, Outcomes, Said, Text
from controller.job.suite import Example, is_right
from controller.job.summary import SuiteResult

KEPT_OF_A_CHANGE = 100  # of one suite: whoever has to read more reads the suite
_TEXT, _MESSAGES = 16_384, 20
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_Pair = tuple[Answer | None, Answer]


@dataclass(frozen=True)
class Scored:
    """A suite's result, and what a report needs of it."""

    result: SuiteResult
    outcomes: Outcomes | None
    counts: tuple[Count, ...]
    changed: tuple[ChangedExample, ...]


def scored(
    suite: Suite, examples: Sequence[Example], reference: Sequence[Answer] | None, candidate: Sequence[Answer]
) -> Scored:
    """Shares of right answers, and of examples with the same answer from both. A failed answer is never right."""
    others: Sequence[Answer | None] = reference if reference is not None else [None] * len(candidate)
    pairs = list(zip(others, candidate, strict=True))
    right = [
        (a is not None and _right(suite, a, e), _right(suite, b, e)) for (a, b), e in zip(pairs, examples, strict=True)
    ]
    changes = [change_of(pair, *verdicts) for pair, verdicts in zip(pairs, right, strict=True)]
    counts = Counter(change for change in changes if change is not None)
    return Scored(
        result=_result(suite, pairs, right, alone=reference is None),
        outcomes=_outcomes(right, pairs) if reference is not None else None,
        counts=tuple(Count(suite=suite.name, change=c, count=counts[c]) for c in Change if counts[c]),
        changed=tuple(_kept(suite, examples, pairs, changes)),
    )


def change_of(pair: _Pair, reference_right: bool, candidate_right: bool) -> Change | None:
    """None where nothing is worth reading: right in the same words, or wrong twice."""
    reference, candidate = pair
    if candidate.text is None or (reference is not None and reference.text is None):
        return Change.FAILED
    if reference is None:
        return None if candidate_right else Change.WRONG
    if reference_right != candidate_right:
        return Change.LOST if reference_right else Change.GAINED
    return Change.REWORDED if candidate_right and reference.text != candidate.text else None


def _right(suite: Suite, answer: Answer, example: Example) -> bool:
    return answer.text is not None and is_right(suite.scorer, answer.text, example.expected)


def _result(suite: Suite, pairs: Sequence[_Pair], right: Sequence[tuple[bool, bool]], *, alone: bool) -> SuiteResult:
    samples = len(pairs)
    same = sum(_same(pair) for pair in pairs)
    return SuiteResult(
        name=suite.name,
        samples=samples,
        reference=None if alone else sum(r for r, _ in right) / samples,
        candidate=sum(c for _, c in right) / samples,
        agreement=None if alone else same / samples,
        errors=sum(answer.text is None for pair in pairs for answer in pair if answer is not None),
    )


def _same(pair: _Pair) -> bool:
    reference, candidate = pair
    return reference is not None and reference.text is not None and reference.text == candidate.text


def _outcomes(right: Sequence[tuple[bool, bool]], pairs: Sequence[_Pair]) -> Outcomes:
    found = Counter(right)
    return Outcomes(
        both_right=found[True, True],
        only_reference=found[True, False],
        only_candidate=found[False, True],
        both_wrong=found[False, False],
        reworded=sum(r == (True, True) and not _same(p) for r, p in zip(right, pairs, strict=True)),
    )


def _kept(
    suite: Suite, examples: Sequence[Example], pairs: Sequence[_Pair], changes: Sequence[Change | None]
) -> Iterator[ChangedExample]:
    """The first of each change, in the order of the suite."""
    kept: Counter[Change] = Counter()
    for number, (example, (reference, candidate), change) in enumerate(zip(examples, pairs, changes, strict=True), 1):
        if change is None or kept[change] == KEPT_OF_A_CHANGE:
            continue
        kept[change] += 1
        yield ChangedExample(
            suite=suite.name,
            number=number,
            change=change,
            messages=tuple(_message(m) for m in example.messages[-_MESSAGES:]),
            expected=_text(example.expected),
            reference=_said(reference) if reference is not None else None,
            candidate=_said(candidate),
        )


def _message(message: Mapping[str, Any]) -> Message:
    return Message(role=_whole(str(message.get("role", "")))[:32], **_text(_words(message.get("content"))).model_dump())


def _words(content: Any) -> str:
    """The text of a message; of parts that are no text only their type: an image may be megabytes."""
    if isinstance(content, list):
        return "\n".join(
            str(part["text"]) if "text" in part else f"[{part.get('type', 'part')}]"
            for part in content
            if isinstance(part, Mapping)
        )
    return content if isinstance(content, str) else ""


def _said(answer: Answer) -> Said:
    return Said(tokens=answer.tokens, error=_whole(answer.error)[:300], **_text(answer.text or "").model_dump())


def _text(text: str) -> Text:
    return Text(text=_whole(text[:_TEXT]), left_out=max(0, len(text) - _TEXT))


def _whole(text: str) -> str:
    """A server's JSON may hold half of a character, which no file can."""
    return _HALF_CHARACTER.sub("\ufffd", text)
