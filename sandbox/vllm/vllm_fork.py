"""A vLLM plugin: a server's three processes import vLLM once.

The CPU build spawns engine and worker, so that it can bind each one's threads to cores of its own, and imports all of
vLLM in each: most of a small server's start. The sandbox binds nothing, so they are forked here, as on GPUs.
"""

import os
from typing import Any


def register() -> None:
    """Called by vLLM before it makes its configuration, which is where the CPU build asks for `spawn`."""
    from vllm.platforms.cpu import CpuPlatform

    check_and_update_config = CpuPlatform.check_and_update_config.__func__

    def then_fork(cls: type[CpuPlatform], vllm_config: Any) -> None:
        check_and_update_config(cls, vllm_config)
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    CpuPlatform.check_and_update_config = classmethod(then_fork)
