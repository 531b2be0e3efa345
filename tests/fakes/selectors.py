"""Label and field selectors, as the API server reads them."""

from __future__ import annotations

import re
from typing import Any

from tests.fakes.etcd import Json


def selects(query: dict[str, str], obj: Json) -> bool:
    labels = obj["metadata"].get("labels") or {}
    terms = re.split(r",(?![^(]*\))", query.get("labelSelector", ""))
    if not all(_label_term(term.strip(), labels) for term in terms if term):
        return False
    return all(_field_term(term, obj) for term in query.get("fieldSelector", "").split(",") if term)


def _label_term(term: str, labels: Json) -> bool:
    chosen = re.fullmatch(r"(\S+) (in|notin) \((.*)\)", term)
    if chosen:
        inside = labels.get(chosen[1]) in [value.strip() for value in chosen[3].split(",")]
        return inside == (chosen[2] == "in")
    if term.startswith("!"):
        return term[1:] not in labels
    if "=" not in term:
        return term in labels
    name, operator, value = re.split(r"(!=|==?)", term, maxsplit=1)
    return (labels.get(name) == value) == (operator != "!=")


def _field_term(term: str, obj: Json) -> bool:
    name, operator, value = re.split(r"(!=|==?)", term, maxsplit=1)
    found: Any = obj
    for part in name.split("."):
        found = (found or {}).get(part)
    return bool((found == value) == (operator != "!="))
