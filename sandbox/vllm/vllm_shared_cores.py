"""A vLLM plugin: a server that leaves cores to others.

The CPU build wants its cores for itself: engine and worker are spawned, so that each can bind its threads, and import
all of vLLM once more each, which is most of a small server's start; and they wait for one another by spinning. Here
cores are shared with everything else: processes are forked, as on GPUs, and sleep between two looks.
"""

import os
import time
from functools import partial
from typing import Any

POLL_SECONDS = 0.0002


def register() -> None:
    """Called by vLLM before it makes its configuration, which is where the CPU build asks for `spawn`."""
    from vllm.distributed.device_communicators import shm_broadcast
    from vllm.platforms.cpu import CpuPlatform

    check_and_update_config = CpuPlatform.check_and_update_config.__func__

    def then_fork(cls: type[CpuPlatform], vllm_config: Any) -> None:
        check_and_update_config(cls, vllm_config)
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    CpuPlatform.check_and_update_config = classmethod(then_fork)
    shm_broadcast.sched_yield = partial(time.sleep, POLL_SECONDS)
