"""What the programs share."""

import sys


def failure(call):
    """The class of what the call raises."""
    try:
        call()
    except Exception as error:
        return type(error).__name__
    return "no error"


def report():
    """Where llmpool is under this process: what it served, and how many connections it has."""
    llmpool = sys.modules.get("llmpool")
    if llmpool is not None:
        for each in llmpool.installed():
            print("served" if each.served else "not served", each, file=sys.stderr)
