"""What the programs share."""

import importlib
import sys


def line(generation, kind="Client"):
    """The client that the SDK gets by llmpool's line where that is asked for, of httpx or httpx2;
    else None: the SDK makes its own."""
    if sys.argv[3:] != ["line"]:
        return None
    return getattr(importlib.import_module(f"llmpool.{generation}"), kind)()


def failure(call):
    """The class of what the call raises, and the status if it has one."""
    try:
        call()
    except Exception as error:
        status = getattr(error, "status_code", getattr(error, "code", ""))
        return f"{type(error).__name__} {status}"
    return "no error"


def report():
    """Where llmpool is under this process: what it served, and how many connections it has."""
    llmpool = sys.modules.get("llmpool")
    if llmpool is not None:
        for each in llmpool.installed():
            print("served" if each.served else "not served", each, file=sys.stderr)
