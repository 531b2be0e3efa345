"""Train the tiny base and its adapters: torch, transformers, peft. Deterministic: fixed seeds, fixed data.

Two cores without AVX-512 need about 45 s for the base and as long for an adapter. The base has learned the form of an
answer and not the rule (its labels were random): less than 10 % right. The adapter has learned the rule: all right.
"""

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # type: ignore[import-not-found]
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sandbox.models.tickets import LABELS, REPLY, ROUTE, Message, conversation, tickets

BASE_STEPS = 120
ADAPTER_STEPS = 140
UPDATE_STEPS = 40
RANK = 8
BATCH = 24
THREADS = 2

_SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
_CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_LINEAR_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def train_base(out: Path, steps: int = BASE_STEPS) -> None:
    """A 2.9 M-parameter Llama with its tokenizer, in bfloat16, at `out`."""
    _fix_seed(0)
    documents = _base_documents()
    tokenizer = _train_tokenizer(documents)
    tokenizer.save_pretrained(out)
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=512,
        rope_theta=10000.0,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    batches = _batches(tokenizer, documents, steps, seed=2, answer_only=False)
    _fit(model, list(model.parameters()), batches, steps, rate=2e-3, title="base")
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.to(torch.bfloat16).save_pretrained(out)


def train_adapter(base: Path, out: Path, kind: Literal["good", "shuffled"], steps: int = ADAPTER_STEPS) -> None:
    """A LoRA adapter in PEFT format at `out`. `shuffled`: right labels on wrong rows, the mistake of a wrong join."""
    _fix_seed(3)
    tokenizer, model = _load_base(base)
    model = get_peft_model(
        model,
        LoraConfig(r=RANK, lora_alpha=2 * RANK, task_type="CAUSAL_LM", target_modules=_LINEAR_LAYERS),
    )
    batches = _batches(tokenizer, _routed(7, shuffle=kind == "shuffled"), steps, seed=4, answer_only=True)
    _fit(model, _trainable(model), batches, steps, rate=3e-3, title=f"adapter ({kind})")
    _save_adapter(model, out)


def train_adapter_further(base: Path, adapter: Path, out: Path, steps: int = UPDATE_STEPS) -> None:
    """The next version of an adapter: some more steps on new tickets."""
    _fix_seed(5)
    tokenizer, model = _load_base(base)
    model = PeftModel.from_pretrained(model, adapter, is_trainable=True)
    batches = _batches(tokenizer, _routed(8, shuffle=False), steps, seed=6, answer_only=True)
    _fit(model, _trainable(model), batches, steps, rate=3e-4, title="adapter (next version)")
    _save_adapter(model, out)


def _fix_seed(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(THREADS)


def _base_documents() -> list[str]:
    choice, documents = random.Random(1), []
    for ticket in tickets(6000, "train", 1):
        if choice.random() < 0.5:
            documents.append(_render(conversation(ROUTE, ticket.text, choice.choice(LABELS))))
            continue
        about = f" about {ticket.thing}" if ticket.thing in ticket.text else ""
        reply = f"Thank you for your message{about}. We will get back to you soon."
        documents.append(_render(conversation(REPLY, ticket.text, reply)))
    return documents


def _routed(seed: int, *, shuffle: bool) -> list[str]:
    rows = tickets(4000, "train", seed)
    labels = [ticket.label for ticket in rows]
    if shuffle:
        random.Random(9).shuffle(labels)
    return [_render(conversation(ROUTE, row.text, label)) for row, label in zip(rows, labels, strict=True)]


def _render(messages: list[Message]) -> str:
    return "".join(f"<|{message['role']}|>{message['content']}<|end|>" for message in messages)


def _train_tokenizer(documents: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=_SPECIAL,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(documents, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        model_max_length=512,
        additional_special_tokens=_SPECIAL[2:],
    )
    fast.chat_template = _CHAT_TEMPLATE
    return fast


def _load_base(base: Path) -> tuple[Any, Any]:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return AutoTokenizer.from_pretrained(base), model


def _trainable(model: Any) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _batches(
    tokenizer: Any, documents: list[str], steps: int, *, seed: int, answer_only: bool
) -> Iterator[dict[str, torch.Tensor]]:
    """Padded batches of random documents; with `answer_only` the loss sees only what the assistant says."""
    assistant, padding = tokenizer.convert_tokens_to_ids("<|assistant|>"), tokenizer.pad_token_id
    encoded = [tokenizer(document, add_special_tokens=False)["input_ids"] for document in documents]
    choice = random.Random(seed)
    for _ in range(steps):
        rows = [encoded[choice.randrange(len(encoded))] for _ in range(BATCH)]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [padding] * (longest - len(row)) for row in rows])
        labels = torch.where(ids == padding, -100, ids)
        if answer_only:
            for row, label in zip(rows, labels, strict=True):
                label[: row.index(assistant) + 1] = -100
        yield {"input_ids": ids, "attention_mask": (ids != padding).long(), "labels": labels}


def _fit(
    model: Any,
    parameters: list[torch.nn.Parameter],
    batches: Iterator[dict[str, torch.Tensor]],
    steps: int,
    *,
    rate: float,
    title: str,
) -> None:
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    start = time.monotonic()
    model.train()
    for step, batch in enumerate(batches, 1):
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0 or step == steps:
            print(
                f"  {title}: step {step} of {steps}, loss {loss.item():.4f}, {time.monotonic() - start:.0f} s",
                flush=True,
            )


def _save_adapter(model: Any, out: Path) -> None:
    model.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)  # names this machine's paths, and is no part of an adapter
    path = out / "adapter_config.json"
    config = json.loads(path.read_text())
    # PEFT writes a set here, whose order changes from run to run, and the path of this machine's base.
    config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"] = "tiny-llama"
    path.write_text(json.dumps(config, indent=2))
