"""What can go wrong with one vLLM server, as leaves of the tree in `controller/errors.py`.

TransientError
├── EngineUnreachable    no answer: refused, reset, timed out, cut off
├── EngineTroubled       an answer that says nothing about the request: 5xx of a sick engine, no JSON
└── AdapterNotVisible    vLLM finds no adapter at the path: the volume may show it there a little later
PermanentError
├── EngineRefused        a 4xx: the request itself is wrong (also a wrong API key)
├── LoadRejected         a healthy engine cannot load this adapter
├── NameTaken            the name is there already, with another path or as the base model
└── UnknownAdapter       unload of a name that is not listed
"""

# ruff: noqa: N818 - named for what happened, as the leaves of controller/errors.py are

from __future__ import annotations

from controller.errors import PermanentError, TransientError


class EngineUnreachable(TransientError):
    default_reason = "EngineUnreachable"


class EngineTroubled(TransientError):
    default_reason = "EngineTroubled"


class AdapterNotVisible(TransientError):
    default_reason = "AdapterNotVisible"


class EngineRefused(PermanentError):
    default_reason = "EngineRefused"


class LoadRejected(PermanentError):
    default_reason = "LoadRejected"


class NameTaken(PermanentError):
    default_reason = "ModelNameTaken"


class UnknownAdapter(PermanentError):
    default_reason = "UnknownAdapter"
