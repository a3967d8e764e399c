"""docs/opentelemetry.md: its program runs as printed, and it names what there is."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.sdk")

from llmpool._otel.pool_metrics import ROWS

PAGE = Path(__file__).resolve().parents[4] / "docs" / "opentelemetry.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="outside the repository")
SOURCES = Path(__file__).resolve().parents[2] / "llmpool" / "_otel"


def test_the_program(quick, run_python):
    program = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL).group(1)
    done = run_python(program, OPENAI_BASE_URL=quick.url + "/v1", OPENAI_API_KEY=quick.api_key)
    assert done.returncode == 0, done.stderr
    span = json.loads(done.stdout)
    assert (span["name"], span["kind"]) == ("POST", "SpanKind.CLIENT")
    assert span["attributes"]["http.response.status_code"] == 200
    assert span["events"][-1]["name"] == "llmpool.first_token"
    assert quick.api_key not in done.stdout


def test_every_name_is_on_the_page():
    page = PAGE.read_text()
    names = {row.name for row in ROWS}
    for path in SOURCES.glob("*.py"):
        names.update(
            re.findall(r'"((?:llmpool|gen_ai\.client|http\.client)\.[\w.]+)"', path.read_text())
        )
    names.discard("llmpool.otel")  # a logger
    names.discard("llmpool.outcome")
    assert len(names) > 20 and [name for name in sorted(names) if f"`{name}`" not in page] == []
    for step in ("budgeted", "connected", "admitted", "sent", "first_byte", "first_token"):
        assert f"| `llmpool.{step}` |" in page
