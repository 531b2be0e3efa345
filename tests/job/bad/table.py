"""Every kind of bad adapter. `python -m tests.job.bad.table` writes docs/checks.md anew with what the command says."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

from tests.job.bad.bases import BASES
from tests.job.bad.configs import CONFIGS
from tests.job.bad.features import FEATURES
from tests.job.bad.files import FILES
from tests.job.bad.making import Bad, check
from tests.job.bad.tensors import TENSORS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "checks.md"

BAD = {
    "The files": FILES,
    "The config": CONFIGS,
    "The tensors": TENSORS,
    "The base": BASES,
    "What cannot be served, or not at all": FEATURES,
}
ALL = [bad for group in BAD.values() for bad in group]


def said(answer: str, bad: Bad) -> str:
    """What the command's JSON says for the reason, as a cell of the table."""
    messages = [f["message"] for f in json.loads(answer)["findings"] if f["reason"] == bad.reason]
    return re.sub(r"[|`]", "", "; ".join(messages)).replace("\n", " ")


def table() -> str:
    """The tables of docs/checks.md."""
    lines = []
    for heading, group in BAD.items():
        lines += [f"### {heading}", "", "| what is wrong | reason | what is said |", "|---|---|---|"]
        for bad in group:
            with tempfile.TemporaryDirectory() as directory:
                bad.make(Path(directory))
                answer = check(Path(directory), bad, "--json").stdout
            lines.append(f"| {bad.what} | `{bad.reason}` | {said(answer, bad)} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    before, _, _ = PAGE.read_text().partition("## What is refused\n")
    PAGE.write_text(f"{before}## What is refused\n\n{table()}".rstrip() + "\n")
