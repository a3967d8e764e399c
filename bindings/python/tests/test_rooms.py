"""The rooms of the package. Which may import which is checked by scripts/tidy."""

from pathlib import Path

import llmpool

# The package itself loads the library; a room needs of it no more than its path.
PLAIN = """
import importlib, pathlib, sys, types

package = types.ModuleType("llmpool")
package.__path__ = [sys.argv[1]]
sys.modules["llmpool"] = package
for path in sorted(pathlib.Path(sys.argv[1], "_http").glob("*.py")):
    importlib.import_module("llmpool._http" + ("" if path.stem == "__init__" else "." + path.stem))
print(*sorted({name for name in sys.modules if name.startswith(("llmpool._", "ctypes"))}))
import llmpool._http.urls as urls
print(urls.resolve("https://h/v1/", "/chat", None))
"""


def test_plain_http_needs_no_library(run_python, tmp_path):
    here = Path(llmpool.__file__).parent
    done = run_python(PLAIN, here, LLMPOOL_LIBRARY=str(tmp_path / "none.so"))
    assert done.returncode == 0, done.stderr
    modules, url = done.stdout.splitlines()
    stems = {path.stem for path in (here / "_http").glob("*.py")} - {"__init__"}
    assert {"exceptions", "models", "sse", "urls"} <= stems
    assert set(modules.split()) == {"llmpool._http", *(f"llmpool._http.{stem}" for stem in stems)}
    assert url == "https://h/v1/chat"


def test_public_names_are_of_the_package():
    for name in llmpool.__all__:
        value = getattr(llmpool, name)
        if callable(value):
            assert value.__module__ == "llmpool", name
