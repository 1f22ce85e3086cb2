"""The command line inside an environment with TensorRT or TensorRT-RTX: a request as JSON in, facts as JSON out.

Example: python -m tools.engines.tensorrt_command build request.json facts.json
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.engines import tensorrt
from tools.export.command import REFUSED


def _run(request: Mapping[str, Any]) -> dict[str, Any]:
    from tools.engines import tensorrt_runtime  # noqa: PLC0415 - needs NumPy, which building does not

    return tensorrt_runtime.run(tensorrt_runtime.RunRequest(**request), _show)


ACTIONS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "build": lambda request: tensorrt.build(tensorrt.BuildRequest(**request), _show),
    "run": _run,
    "version": lambda request: {"builder": f"{request['builder']} {tensorrt.load(request['builder']).__version__}"},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one action; on refusal one line on stderr and exit code 3."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("request", type=Path)
    parser.add_argument("facts", type=Path)
    chosen = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # deprecations of one release are not in the other
    try:
        facts = ACTIONS[chosen.action](json.loads(chosen.request.read_text(encoding="utf-8")))
    except tensorrt.BuildRefusedError as error:
        print(error, file=sys.stderr)
        return REFUSED
    chosen.facts.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    return 0


def _show(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
