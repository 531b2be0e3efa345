"""A vLLM plugin: asks the kernel for the AMX tile state in every vLLM process.

Without it the AWQ kernels of the CPU build die of SIGILL on processors with AMX. Nothing to install: vLLM finds the
plugin by the dist-info folder beside this file when both lie on PYTHONPATH.
"""

import logging

import torch


def register() -> None:
    """Called by vLLM in each of its processes."""
    ask = getattr(torch.cpu, "_init_amx", None)
    logging.getLogger("vllm.amx").info("AMX tile state: %s", ask() if ask else "not supported by this torch")
