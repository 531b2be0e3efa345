"""Adapters whose files are not what they should be."""

from __future__ import annotations

import os
import struct

from controller.job.reasons import Reason
from tests.job.bad.making import (
    WEIGHTS,
    Bad,
    cut,
    entry,
    file,
    header,
    integers,
    link_out,
    loop,
    many,
    plain,
)

R = Reason

FILES = (
    Bad(
        "a pickle instead of safetensors",
        R.UNSUPPORTED_FORMAT,
        plain(change=lambda d: (d / "adapter" / WEIGHTS).rename(d / "adapter" / "adapter_model.bin")),
    ),
    Bad("a pickle besides", R.UNSUPPORTED_FORMAT, file("training_args.bin", b"x")),
    Bad("a link that leads out", R.UNSUPPORTED_FORMAT, plain(change=link_out)),
    Bad("a loop of links", R.UNSUPPORTED_FORMAT, plain(change=loop)),
    Bad("a pipe", R.UNSUPPORTED_FORMAT, plain(change=lambda d: os.mkfifo(d / "adapter" / "tokenizer.json"))),
    Bad(
        "a directory in place of a file",
        R.UNSUPPORTED_FORMAT,
        plain(change=lambda d: (d / "adapter" / "README.md").mkdir()),
    ),
    Bad("a thousand files", R.UNSUPPORTED_FORMAT, plain(change=many)),
    Bad("no weights", R.UNSUPPORTED_FORMAT, plain(change=lambda d: (d / "adapter" / WEIGHTS).unlink())),
    Bad("an empty file of weights", R.UNSUPPORTED_FORMAT, file(WEIGHTS, b"")),
    Bad("weights cut off", R.UNSUPPORTED_FORMAT, plain(change=cut)),
    Bad(
        "a Git LFS pointer",
        R.UNSUPPORTED_FORMAT,
        file(WEIGHTS, "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    ),
    Bad("a header that claims 100 MB", R.UNSUPPORTED_FORMAT, file(WEIGHTS, struct.pack("<Q", 100_000_000) + b"{}")),
    Bad("a header of deep JSON", R.UNSUPPORTED_FORMAT, header(b'{"a":' + b"[" * 100_000)),
    Bad("a tensor of insane size", R.UNSUPPORTED_FORMAT, header({"a": entry([1 << 40, 1 << 40], 0, 8)}, bytes(8))),
    Bad(
        "tensors that overlap", R.UNSUPPORTED_FORMAT, header({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12))
    ),
    Bad("bytes that belong to no tensor", R.UNSUPPORTED_FORMAT, header({"a": entry([2], 0, 8)}, bytes(9))),
    Bad(
        "one name for two tensors",
        R.UNSUPPORTED_FORMAT,
        header(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{}}', b"x"),
    ),
    Bad("an unknown dtype", R.UNSUPPORTED_FORMAT, header({"a": entry([2], 0, 8, "F31")}, bytes(8))),
    Bad("integer weights", R.UNSUPPORTED_FORMAT, plain(change=integers)),
    Bad("a tokenizer that is no JSON", R.UNSUPPORTED_FORMAT, file("tokenizer.json", "<html>")),
)
