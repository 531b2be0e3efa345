"""Questions whose answers tell the versions apart, found by asking each version alone before anything happens.

Version v2 is the demo's adapter that was trained on shuffled labels: it answers in v1's form and says something else. A
question is used where each version says one thing, however many others are asked at the same time, and where v1 and v2
differ; those come first whose every token leads the next best by most, so that rounding does not decide.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.no_request_lost.records import Question

SHORT, LONG = "short", "long"
ANSWER_TOKENS = 24  # more than any answer has
_CROWDS = (3, 12)  # clients at a time; each version is asked in both crowds

Json = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """One question to all versions."""

    id: str
    messages: list[dict[str, str]]
    tokens: int

    def body(self, model: str) -> Json:
        body: Json = {"model": model, "temperature": 0, "messages": self.messages, "max_tokens": self.tokens}
        if self.tokens > ANSWER_TOKENS:
            body["ignore_eos"] = True
        return body | {"logprobs": True, "top_logprobs": 2}


@dataclass(frozen=True)
class Said:
    text: str
    lead: float
    """Natural logarithm of how far the token that was least sure was ahead of the next best."""


def asked_of(suite: Path, kind: str, tokens: int) -> list[Asked]:
    rows = [json.loads(line) for line in suite.read_text().splitlines()]
    return [Asked(f"{kind}-{n}", row["messages"], tokens) for n, row in enumerate(rows)]


def replies(http: httpx.Client, url: str, model: str, asked: Iterable[Asked]) -> dict[str, list[Said]]:
    """What a version says, by question, once in each crowd."""

    def ask(question: Asked) -> tuple[str, Said]:
        answer = http.post(f"{url}/v1/chat/completions", json=question.body(model)).raise_for_status().json()
        return question.id, said_in(answer["choices"][0])

    found: dict[str, list[Said]] = {}
    for crowd in _CROWDS:
        with ThreadPoolExecutor(crowd) as pool:
            for identifier, said in pool.map(ask, asked):
                found.setdefault(identifier, []).append(said)
    return found


def said_in(choice: Json) -> Said:
    leads = []
    for token in choice["logprobs"]["content"]:
        best, *rest = sorted((t["logprob"] for t in token["top_logprobs"]), reverse=True)
        leads.append(best - rest[0] if rest else float("inf"))
    return Said(choice["message"]["content"], min(leads, default=0.0))


def telling(by_version: Mapping[str, Mapping[str, list[Said]]], most: int) -> dict[str, Question]:
    """The questions that tell all versions apart, by id; the surest ones, if there are more than `most`."""
    found: list[tuple[float, Question]] = []
    for identifier in set.intersection(*(set(replies) for replies in by_version.values())):
        said = {version: replies[identifier] for version, replies in by_version.items()}
        texts = {version: frozenset(s.text for s in all_of_it) for version, all_of_it in said.items()}
        one_each = all(len(known) == 1 for known in texts.values())
        apart = len(frozenset.union(*texts.values())) == len(texts)
        if one_each and apart:
            lead = min(s.lead for all_of_it in said.values() for s in all_of_it)
            found.append((-lead, Question(identifier, texts)))
    surest = sorted(found, key=lambda pair: (pair[0], pair[1].id))[:most]
    return {question.id: question for _, question in surest}


def with_more(questions: Mapping[str, Question], version: str, said: Mapping[str, list[Said]]) -> dict[str, Question]:
    """A version may also say what the same weights say when they are merged; not where that is another version's."""
    found = {}
    for identifier, question in questions.items():
        more = frozenset(s.text for s in said.get(identifier, ()))
        if not any(question.version_of(text) not in ("", version) for text in more):
            found[identifier] = Question(identifier, {**question.texts, version: question.texts[version] | more})
    return found


def for_clients(asked: Iterable[Asked], chosen: Mapping[str, Question]) -> list[Json]:
    """As clients/traffic.py reads them."""
    keys = [a for a in asked if a.id in chosen]
    return [{"id": a.id, "messages": a.messages, "tokens": a.tokens, "answer_tokens": ANSWER_TOKENS} for a in keys]
