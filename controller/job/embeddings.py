"""The input and output embeddings of a base, which many models keep as one tensor.

Must not know of adapters.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.job.base import Base

_INPUTS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
_HEADS = ("lm_head.weight", "embed_out.weight")
# vLLM computes the logits of these with the input embedding, whatever config.json says.
_ALWAYS_TIED = ("gemma2", "gemma3n", "cohere")


@dataclass(frozen=True)
class Embeddings:
    """Names of the two tensors. `tied`: the model uses one for both; `head_is_stored`: there may be a copy anyway."""

    input: str
    head: str
    tied: bool
    head_is_stored: bool


def embeddings_of(base: Base) -> Embeddings | None:
    """None if the base has no input embedding that is known by its name."""
    named = [t for t in base.tensors() if t.name.endswith(_INPUTS) and len(t.shape) == 2]
    if not named:
        return None
    text = max(named, key=lambda t: (t.shape[0], t.name)).name  # of several, the text model's has the most rows
    stored = next((t.name for t in base.tensors() if t.name.endswith(_HEADS)), None)
    prefix = "language_model." if text.startswith("language_model.model.") else ""
    tied = stored is None or _says_tied(base)
    return Embeddings(text, stored or f"{prefix}lm_head.weight", tied, stored is not None)


def served_tied_only(base: Base) -> str | None:
    """The model type, if vLLM cannot serve it with an output embedding of its own."""
    kind = str(base.config.get("model_type"))
    return kind if kind.startswith(_ALWAYS_TIED) else None


def _says_tied(base: Base) -> bool:
    text = base.config.get("text_config")
    documents = (base.config, text if isinstance(text, dict) else {})
    return any(document.get("tie_word_embeddings") is True for document in documents)
