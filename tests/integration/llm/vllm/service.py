"""The LLM service on a machine that only says it has a GPU and Triton's vLLM backend: `python -m ...vllm.service`."""

import sys

from services.common import service
from services.common.machine import Gpu, Machine, this_platform
from services.llm.__main__ import main

MACHINE = Machine(
    platform=this_platform(),
    memory_bytes=64 << 30,
    gpus=(Gpu("NVIDIA H100 80GB HBM3", "9.0", 80 << 30),),
    driver="580.65.06",
    backends=frozenset(("python", "vllm")),
)

if __name__ == "__main__":
    service.this_machine = lambda **_: MACHINE
    sys.exit(main())
