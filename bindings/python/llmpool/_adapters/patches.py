"""What others patch of httpx and httpcore, to mock or to instrument them."""

import sys
from collections import Counter
from types import FunctionType
from typing import Any, Iterable, List, Set, Tuple

CORES = {"httpx": "httpcore", "httpx2": "httpcore2"}


def handler(is_async: bool) -> str:
    """Of transports, pools and connections, how the function is called that sends a request."""
    return "handle_async_request" if is_async else "handle_request"


class Unpatched:
    """Whether functions are those that they were: a mock's are to be called, and nothing sent.

    Args:
        functions: classes, and names in them.
        files: which the code of such functions names.
    """

    __slots__ = ("_files", "_known")

    def __init__(self, functions: Iterable[Tuple[Any, str]], files: Set[str]) -> None:
        self._files = files
        # Classes that stand for what is not installed have none.
        self._known = {place: self._own(*place) for place in functions if hasattr(*place)}

    def _own(self, owner: Any, name: str) -> Any:
        """The function, if nobody has replaced it."""
        function = getattr(owner, name)
        if type(function) is not FunctionType:  # a wrapper may show what it has within
            return None
        return function if function.__code__.co_filename in self._files else None

    def __bool__(self) -> bool:
        for place, own in self._known.items():
            if getattr(*place) is not own:
                # Or somebody's whose mock has ended since.
                own = self._known[place] = self._own(*place)
                if own is None:
                    return False
        return True


def compiled_as(module: Any) -> str:
    """The file that most functions of its classes name, one of which somebody may have replaced;
    not its __file__, which another one may be where it was compiled elsewhere."""
    files = Counter(
        function.__code__.co_filename
        for kind in vars(module).values()
        if isinstance(kind, type)
        for function in vars(kind).values()
        if hasattr(function, "__code__") and function.__module__ == module.__name__
    )
    return files.most_common(1)[0][0] if files else ""


def core_files(core: Any) -> Set[str]:
    """Of the code of httpcore."""
    return {
        compiled_as(module)
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == core.__name__
    }


def core_functions(core: Any, is_async: bool) -> List[Tuple[Any, str]]:
    """Its way from a pool to the network."""
    if is_async:
        connections = core.AsyncConnectionInterface
        backends = [type(core.AsyncConnectionPool()._network_backend), core.AnyIOBackend]
    else:
        connections = core.ConnectionInterface
        backends = [core.SyncBackend]
    functions = [
        (kind, handler(is_async))
        for kind in connections.__subclasses__()
        if kind.__module__.partition(".")[0] == core.__name__
    ]
    return functions + [(kind, "connect_tcp") for kind in backends]
