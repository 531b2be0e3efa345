"""What the name of a module says: whether it is an embedding, the output layer or a sense; what a list may call it.

Names are all that a checkpoint has; these are the ones that transformers' models use. Must not know of tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# What sees or hears in a multimodal model.
SENSES = r"(.*\.)?(visual|vision_\w+|audio_\w+|embed_vision|embed_audio|multi_modal_projector|mm_projector)(\..*)?"
_SENSES = re.compile(SENSES)
_EMBEDDINGS = frozenset({"wte", "wpe", "embed_in", "tok_embeddings"})
_OUTPUTS = frozenset({"lm_head", "embed_out", "output"})
# Heads of classifiers: PEFT's all-linear leaves them out as it does the output layer.
_HEADS = frozenset({"score", "classifier", "v_head"})


def leaf(module: str) -> str:
    """`q_proj` for `model.layers.0.self_attn.q_proj`."""
    return module.rpartition(".")[2]


def is_embedding(module: str) -> bool:
    """Whether the module looks tokens or positions up instead of multiplying."""
    name = leaf(module)
    return name in _EMBEDDINGS or (name not in _OUTPUTS and "embed" in name and "proj" not in name)


def is_output(module: str) -> bool:
    """Whether the module makes logits: PEFT's all-linear leaves it out."""
    return leaf(module) in _OUTPUTS | _HEADS


def is_sense(module: str) -> bool:
    """Whether the module sees or hears, or hands on to the language model what was seen or heard."""
    return _SENSES.fullmatch(module) is not None


def is_vocabulary(module: str) -> bool:
    """Whether the rows of the module's weight are tokens."""
    return is_embedding(module) or leaf(module) in _OUTPUTS


def suffixes(module: str) -> Iterator[str]:
    """The module's own name, then what is left after each dot: what a name in a list may stand for."""
    yield module
    start = module.find(".")
    while start >= 0:
        yield module[start + 1 :]
        start = module.find(".", start + 1)
