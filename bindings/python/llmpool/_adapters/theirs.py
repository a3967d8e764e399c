"""Transports of httpx's own below those of ours, for who has patched httpx or httpcore."""

import os
from importlib import import_module
from typing import Any, Dict

from .httpcore import CoreKit
from .httpx import Carrier, Kit
from .patches import CORES, Unpatched, core_files, core_functions, handler


def theirs(kit: Kit, carrier: Carrier, is_async: bool, arguments: Dict[str, Any]) -> Any:
    """A transport of httpx that is called as all of them are, whatever its functions are now. What
    goes as far as its pool comes back to ours, unless that one's functions are patched.

    Args:
        arguments: of the transport of ours.
    """
    module = kit.module
    core = import_module(CORES[module.__name__])
    kind = kit.transport_class(is_async)
    names = ("limits", "proxy", "retries")
    given = {name: arguments[name] for name in names if arguments[name] is not None}
    transport = kind(verify=_verify(module, **arguments), **given)
    # Not by its attribute, where install() would find it.
    pool = transport.__dict__.get("_pool")
    if pool is None:  # somebody's class in the place of httpx's: it does all the work
        return transport
    name = handler(is_async)
    functions = [(type(pool), name), *core_functions(core, is_async)]
    unpatched = Unpatched(functions, core_files(core))
    ours = CoreKit(module, core, kit.stream, kit.async_stream)

    def is_ours(request: Any) -> bool:
        return bool(unpatched) and not ours.why_not(request)

    def handle_request(request: Any) -> Any:
        if is_ours(request):
            return ours.send(carrier, request)
        return type(pool).handle_request(pool, request)

    async def handle_async_request(request: Any) -> Any:
        if is_ours(request):
            return await ours.asend(carrier, request)
        return await type(pool).handle_async_request(pool, request)

    pool.__dict__[name] = handle_async_request if is_async else handle_request
    pool.__dict__["_llmpool_road"] = carrier  # install() finds that it has one
    return transport


def _verify(module: Any, *, verify: Any, cert: Any, trust_env: bool, **_: Any) -> Any:
    """A context that says the same as these do in httpx, whose own way there is deprecated."""
    import ssl

    if isinstance(verify, (str, os.PathLike)):
        if os.path.isdir(verify):
            context = ssl.create_default_context(capath=verify)
        else:
            context = ssl.create_default_context(cafile=verify)
    else:
        context = module.create_ssl_context(verify=verify, trust_env=trust_env)
    if cert is not None:
        if isinstance(verify, ssl.SSLContext):
            return context  # which is the caller's
        context.load_cert_chain(*((cert,) if isinstance(cert, (str, os.PathLike)) else cert))
    return context
