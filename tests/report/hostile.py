"""Text that tries to be more than text, for every place that shows somebody else's words."""

from __future__ import annotations

from dataclasses import replace

from controller.job.evaluation import Change, ChangedExample, Count, Message, Outcomes, Said, Text
from controller.report.facts import Detail, Earlier, Examples, Report, Side, Size, Source, Speed, Stage, Suite, Verdict

_MANY = ("provenance", "suites", "sizes", "stages", "earlier", "missing", "sources")
ATTACKS = (
    "<script>fetch('//evil.example')</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "</style><style>*{background:url(//evil.example)}</style>",
    "</title><script>alert(1)</script>",
    "--><!--<script>alert(1)//",
    "javascript:alert(1)",
    '<a href="https://evil.example">click</a>',
    "]]><![CDATA[<x>",
    "&lt;b&gt;&amp;amp;&#x3c;b&#x3e;",
    "```\n</details>\n# Pass\n[x](https://evil.example) @everyone #1\n```",
    "`` | ``` | \\` | **b** | <!-- ",
    "![x](https://evil.example/pixel.png)",
    "https://evil.example/ www.evil.example",
    "queue=\u202egnillib\u202c\u2066\u200b",
    "\x00\x07\x1b[31m\x7f\x85",
    "a" * 3_000,
    "\u0301" * 500,
    "\u200b\u200c\U000e0041" * 1_000,
    "e" + "\u0300" * 300 + "bil\u200dling\ufe0f",
)


def everywhere(text: str) -> Report:
    """A report in which somebody else's words are `text`, in every place that has any."""
    outcomes = Outcomes(both_right=8, only_reference=1, only_candidate=0, both_wrong=1)
    suite = Suite(text, 10, 0.9, 0.8, 0.7, 1, text, outcomes)
    side = Side(10.0, 1.0, 0.5, 0.7, 0)
    return Report(
        name=text,
        artifact_id=text,
        release=text,
        standing=text,
        evaluated=text,
        verdict=Verdict("Fail", f"{text}; {text}", "the controller"),
        provenance=(Detail(text, text), Detail(text, text, is_code=True)),
        suites=(suite,),
        speed=Speed(side, side, 1.0, 8, 64),
        sizes=(Size(text, 7),),
        stages=(Stage("Build", text, 2.0),),
        examples=Examples(
            tuple(_example(text, change) for change in Change),
            tuple(Count(suite=text, change=change, count=1) for change in Change),
        ),
        earlier=(Earlier(text, (suite,), None),),
        missing=(text,),
        sources=(Source(text, text),),
    )


def _example(text: str, change: Change) -> ChangedExample:
    failed = change is Change.FAILED
    return ChangedExample(
        suite=text,
        number=3,
        change=change,
        messages=(Message(role=text, text=text), Message(role="user", text=text, left_out=2)),
        expected=Text(text=text),
        reference=None if change is Change.WRONG else Said(text=text),
        candidate=Said(text="" if failed else f"{text} {text}", error=text if failed else ""),
    )


def at_once() -> Report:
    """All attacks on one page: where none of them works, none hides another."""
    first, *others = [everywhere(text) for text in ATTACKS]
    reports = [first, *others]
    return replace(
        first,
        name=" ".join(text[:100] for text in ATTACKS),
        verdict=replace(first.verdict, why="; ".join(r.verdict.why for r in reports)),
        **{part: tuple(one for r in reports for one in getattr(r, part)) for part in _MANY},
        examples=Examples(
            tuple(one for r in reports if r.examples for one in r.examples.changed),
            tuple(one for r in reports if r.examples for one in r.examples.counts),
        ),
    )
