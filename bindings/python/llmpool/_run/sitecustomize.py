"""Puts llmpool under httpx in every interpreter that finds this directory in PYTHONPATH: see
"python -m llmpool run". Nothing is imported before the program imports httpx or httpx2."""

import os
import sys


def _begin() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    if os.environ.get("LLMPOOL_INSTALL", "1") != "0":
        import llmpool_watch  # type: ignore[import-not-found]

        def install(module):  # type: ignore[no-untyped-def]
            from importlib.util import find_spec

            if find_spec("llmpool") is None:  # an interpreter that has other packages
                return
            try:
                import llmpool

                llmpool.install()
            except Exception as error:
                from warnings import warn

                text = f"llmpool is not under {module.__name__}: {error}"
                warn(text, RuntimeWarning, stacklevel=1)

        llmpool_watch.imports.after("ssl", llmpool_watch.contexts.watch)
        # The last two import httpx in their midst, and are to be told of aiohttp at their end.
        for name in ("httpx", "httpx2", "litellm", "google.genai._api_client"):
            llmpool_watch.imports.after(name, install)
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != here]
    _next()


def _next() -> None:
    """The sitecustomize that there would be without this one."""
    from importlib.machinery import PathFinder

    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is None or spec.loader is None:
        return
    from importlib.util import module_from_spec

    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


_begin()
