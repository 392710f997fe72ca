"""`python -m bench NAME` runs a benchmark; without a name it lists them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module

from bench.table import machine

NAMES = ("relay", "ttft", "abort", "idle", "connect", "chaos", "soak")


def main(arguments: list[str]) -> int:
    """Run the benchmark that *arguments* name, its parameters given as NAME=NUMBER."""
    if not arguments or arguments[0] not in NAMES:
        for name in NAMES:
            module = import_module(f"bench.{name}")
            numbers = inspect.signature(module.run).parameters.values()
            print(f"{name:10}{(module.__doc__ or '').splitlines()[0]}")
            print(f"{'':10}{' '.join(f'{each.name}={each.default}' for each in numbers)}")
        return 0 if not arguments or arguments[0] in {"-h", "--help"} else 2
    run: Callable[..., None] = import_module(f"bench.{arguments[0]}").run
    print(machine(), flush=True)
    run(
        **{
            name: float(value) if "." in value else int(value)
            for name, _, value in (each.partition("=") for each in arguments[1:])
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
