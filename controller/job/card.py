"""The model card: `README.md` of an artifact, with the metadata that the Hugging Face Hub reads.

https://huggingface.co/docs/hub/model-cards. Says nothing that differs between two builds of the same contract.
Names, versions and training runs are somebody else's text: nothing in them becomes markup. Must not know how the
artifact is made, nor how it is served here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from controller.job.artifact import Inputs, provenance
from controller.job.contract import AdapterInput, BaseReference, BuildContract
from controller.job.markup import code, flat

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_LICENCE_KEYS = ("license", "license_name", "license_link")
_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/?&=#+-]{0,199}")
_HEAD_BYTES = 64 << 10


def hub_id(base: BaseReference) -> str | None:
    """ORG/NAME, where the base is named by one."""
    return base.model if _HUB_ID.fullmatch(base.model) and not Path(base.model).is_dir() else None


def licence_of(base: Path) -> dict[str, str]:
    """What the base's own card says of its licence; empty when it says nothing that can be taken over."""
    try:
        with (base / "README.md").open("rb") as f:
            head = f.read(_HEAD_BYTES).decode("utf-8", "replace")
    except OSError:
        return {}
    lines = head.split("\n")
    if lines[0].rstrip() != "---" or "---" not in [x.rstrip() for x in lines[1:]]:
        return {}
    found = {}
    for line in lines[1 : [x.rstrip() for x in lines[1:]].index("---") + 1]:
        key, _, value = line.partition(":")
        value = value.partition(" #")[0].strip().strip("\"'")
        if key in _LICENCE_KEYS and _LICENCE.fullmatch(value):
            found[key] = value
    return found if "license" in found else {}


def card_of(contract: BuildContract, inputs: Inputs, name: str, licence: Mapping[str, str]) -> str:
    """The card's text. `licence` is what the base's card says."""
    front = yaml.safe_dump(_metadata(contract, inputs, licence), sort_keys=False, allow_unicode=True, width=10_000)
    return f"---\n{front}---\n\n{_text(contract, inputs, name)}"


def _metadata(contract: BuildContract, inputs: Inputs, licence: Mapping[str, str]) -> dict[str, Any]:
    quantization = inputs.quantization
    method = [str(quantization["method"]).lower(), "compressed-tensors"] if quantization else []
    return {
        "base_model": hub_id(contract.base) or flat(contract.base.name),
        "base_model_relation": "quantized" if quantization else "merge",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        **licence,
        "tags": ["adapter-release", "lora", "merged", "vllm", *method],
    }


def _text(contract: BuildContract, inputs: Inputs, name: str) -> str:
    base, made = contract.base, provenance(contract, inputs)
    made_of = [
        f"- Base: {code(hub_id(base) or base.name)}"
        + (f", revision {code(base.revision)}" if base.revision else "")
        + f", digest {code(inputs.base_digest)}",
        *[_adapter(a) for a in contract.adapters],
        f"- Merged, each weight rounded once to {code(inputs.dtype)}",
        f"- Quantized: {code(made.quantization)}" if made.quantization else "- Not quantized",
        *([f"- Calibration data: digest {code(made.calibration_digest)}"] if made.calibration_digest else []),
        "- Made with: " + ", ".join(f"{code(k)} {code(v)}" for k, v in sorted(inputs.tools.items())),
    ]
    heading = name.replace("_", r"\_")
    return f"""# {heading}

A language model made by the adapter release controller: a LoRA adapter, merged into its base{
        " and quantized" if made.quantization else ""
    }.

## What it is made of

{chr(10).join(made_of)}

The artifact's id is {code(inputs.artifact_id)},
a digest of everything that decides its bytes. `artifact.json` beside this file is the whole provenance: an in-toto
statement, with each file's sha256 and size.

## Use

Serve it with vLLM, which finds out by itself how it is quantized; DIRECTORY is the one that this file is in:

```console
vllm serve DIRECTORY --served-model-name {name}
```

Check that nothing in it was changed:

```console
adapterrelease verify DIRECTORY
```

## Scores

An artifact is measured after it is published, and a published artifact is never changed. So the scores lie beside it,
in `ID.evaluations/`, one in-toto statement for each evaluation. `adapterrelease card DIRECTORY` prints this text with
them.
"""


def _adapter(one: AdapterInput) -> str:
    run = f", training run {code(one.training_run)}" if one.training_run else ""
    weight = f", weight {code(str(one.weight))}" if one.weight != 1.0 else ""
    return f"- Adapter: {code(one.name)} {code(one.version)}, digest {code(one.digest)}{weight}{run}"
