"""What is to be known before llmpool is imported: which modules come, what TLS contexts are given.

It stands alone: sitecustomize.py imports it, by this name, in every interpreter that "python -m
llmpool run" starts, those without llmpool too. It imports next to nothing.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional


class Imports:
    """Calls functions after the import of their modules; at once where that has been."""

    def __init__(self) -> None:
        self._waiting: Dict[str, List[Callable[[Any], None]]] = {}
        # Whose code has run, though the import system has not noted it yet.
        self._ended: set[str] = set()

    def is_there(self, name: str) -> bool:
        """Whether the module was imported to its end."""
        spec = getattr(sys.modules.get(name), "__spec__", None)
        return name in sys.modules and (
            name in self._ended or not getattr(spec, "_initializing", False)
        )

    def after(self, name: str, function: "Callable[[Any], None]") -> None:
        if self.is_there(name):
            function(sys.modules[name])
            return
        self._waiting.setdefault(name, []).append(function)
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def forget(self) -> None:
        """Nothing more is called."""
        self._waiting.clear()
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    # ---- what the import system calls

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        if name not in self._waiting:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = None if finder is self or find is None else find(name, path, target)
            if spec is not None:
                if getattr(spec.loader, "exec_module", None) is not None:
                    spec.loader = _Loader(spec.loader, self)
                return spec
        return None

    def imported(self, module: "Any") -> None:
        self._ended.add(module.__name__)
        for function in self._waiting.pop(module.__name__, ()):
            function(module)


class _Loader:
    """The module's own, and then what waits for it."""

    def __init__(self, loader: "Any", imports: Imports) -> None:
        self._loader = loader
        self._imports = imports

    def create_module(self, spec: "Any") -> "Any":
        return self._loader.create_module(spec)

    def exec_module(self, module: "Any") -> None:
        # From here on nothing shows that somebody else was there.
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._imports.imported(module)

    def __getattr__(self, name: str) -> "Any":
        return getattr(self._loader, name)


class Contexts:
    """Remembers what TLS contexts are given that cannot be read back from them."""

    # Methods of ssl.SSLContext that this class has its own for.
    _METHODS = ("__new__", "load_cert_chain", "load_verify_locations")

    def __init__(self) -> None:
        self._kind: Any = None
        self._given: Any = None
        self._replaced: Dict[str, Any] = {}

    def watch(self, ssl: "Any") -> None:
        """From now on."""
        from weakref import WeakKeyDictionary

        if self._kind is not None:
            return
        self._given = WeakKeyDictionary()
        # Where truststore was put into its place, the class below: that of what truststore's
        # contexts hand everything over to.
        kind = next(
            (kind for kind in ssl.SSLContext.__mro__ if kind.__module__ == "ssl"), ssl.SSLContext
        )
        self._kind = kind
        for name in self._METHODS:
            self._replaced[name] = kind.__dict__.get(name)
        new, chain = kind.__new__, kind.load_cert_chain
        locations = kind.load_verify_locations
        given = self._given

        def __new__(cls: "Any", *args: "Any", **kwargs: "Any") -> "Any":
            context = new(cls, *args, **kwargs)
            given[context] = {}
            return context

        def load_cert_chain(
            self: "Any", certfile: "Any", keyfile: "Any" = None, password: "Any" = None
        ) -> None:
            chain(self, certfile, keyfile, password)
            known = given.setdefault(self, {})
            known["client_cert"] = certfile if keyfile is None else (certfile, keyfile)
            known["has_passphrase"] = password is not None

        def load_verify_locations(
            self: "Any", cafile: "Any" = None, capath: "Any" = None, cadata: "Any" = None
        ) -> None:
            locations(self, cafile, capath, cadata)
            if capath is not None:
                given.setdefault(self, {})["ca_path"] = capath

        self._ours = {
            "__new__": __new__,
            "load_cert_chain": load_cert_chain,
            "load_verify_locations": load_verify_locations,
        }
        kind.__new__ = __new__
        kind.load_cert_chain = load_cert_chain
        kind.load_verify_locations = load_verify_locations

    def given(self, context: "Any") -> "Optional[Dict[str, Any]]":
        """What it was given: client_cert, has_passphrase, ca_path; None where it was made before
        anybody watched."""
        if self._given is None:
            return None
        inner = getattr(context, "_ctx", context)  # of one of truststore's
        known: Optional[Dict[str, Any]] = self._given.get(inner)
        return known

    def end(self) -> None:
        """Takes the methods back that nobody has replaced since."""
        if self._kind is None:
            return
        kind = self._kind
        for name, before in self._replaced.items():
            ours = kind.__dict__.get(name)
            if getattr(ours, "__func__", ours) is not self._ours[name]:
                continue
            if before is None:
                delattr(kind, name)
            else:
                setattr(kind, name, before)
        self._kind = None


imports = Imports()
contexts = Contexts()
