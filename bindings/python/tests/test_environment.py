"""docs/environment.md has every variable that is read."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "environment.md"
READ = re.compile(r'(?:environ(?:\.get)?|getenv|processEnvironment|VARIABLE)\W{1,6}"([A-Za-z_]+)"')
PROXIES = re.compile(r'"([a-z]+_proxy|[A-Z]+_PROXY)"')
# Passed on to children, or to find their programs.
OTHERS = {"PATH", "PYTHONPATH"}


def variables():
    for folder, pattern in (("bindings/python/llmpool", "*.py"), ("Sources", "*.swift")):
        for path in (ROOT / folder).rglob(pattern):
            text = path.read_text()
            yield from READ.findall(text)
            if path.suffix == ".swift":
                yield from PROXIES.findall(text)


@pytest.mark.skipif(not PAGE.exists(), reason="outside the repository")
def test_every_variable_is_on_the_page():
    found = set(variables()) - OTHERS
    assert {"LLMPOOL_STATS_DIR", "LLMPOOL_LIBRARY", "LLMPOOL_INSTALL", "https_proxy"} <= found
    page = PAGE.read_text()
    assert [name for name in sorted(found) if f"`{name}`" not in page] == []
