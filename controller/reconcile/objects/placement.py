"""Where merged pods may run: the base's spreading and affinity, about merged pods instead of the base's.

A constraint that counts the base's own pods is meant for the pods that it stands in. Copied as it is it would count
other pods, and let all merged ones come to one node. Constraints about somebody else's pods stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
Labels = Mapping[str, str]

_AFFINITIES = ("podAffinity", "podAntiAffinity")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


@dataclass(frozen=True)
class Place:
    """Whose pods a constraint counts: the base's by their labels, the merged ones by theirs."""

    namespace: str
    base: Labels
    merged: Labels
    selector: Labels  # of the merged ones, and of no others

    def about_merged(self, constraint: Mapping[str, Any]) -> Json:
        """The constraint, or the term, with the merged pods' selector where it counted the base's."""
        selector = constraint.get("labelSelector")
        elsewhere = constraint.get("namespaces") and self.namespace not in constraint["namespaces"]
        if selector is None or elsewhere or selects(selector, self.merged) or not selects(selector, self.base):
            return dict(constraint)
        return {**constraint, "labelSelector": {"matchLabels": dict(self.selector)}}


def placed(pod_spec: Mapping[str, Any], place: Place) -> Json:
    """The pod spec with its spreading and affinity about merged pods."""
    made = dict(pod_spec)
    if spread := pod_spec.get("topologySpreadConstraints"):
        made["topologySpreadConstraints"] = [place.about_merged(c) for c in spread]
    if affinity := pod_spec.get("affinity"):
        pods = {name: _terms(affinity[name], place.about_merged) for name in _AFFINITIES if affinity.get(name)}
        made["affinity"] = {**affinity, **pods}
    return made


def _terms(given: Mapping[str, Any], change: Callable[[Mapping[str, Any]], Json]) -> Json:
    made = dict(given)
    if required := given.get(_REQUIRED):
        made[_REQUIRED] = [change(term) for term in required]
    if preferred := given.get(_PREFERRED):
        made[_PREFERRED] = [{**p, "podAffinityTerm": change(p["podAffinityTerm"])} for p in preferred]
    return made


def selects(selector: Mapping[str, Any], labels: Labels) -> bool:
    """As Kubernetes' LabelSelector does; an empty one selects everything."""
    if not (selector.get("matchLabels") or {}).items() <= labels.items():
        return False
    return all(_holds(e, labels) for e in selector.get("matchExpressions") or ())


def _holds(expression: Mapping[str, Any], labels: Labels) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case _:  # DoesNotExist
            return value is None
