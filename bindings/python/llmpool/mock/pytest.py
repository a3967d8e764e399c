"""A fixture for pytest; in conftest.py:

    from llmpool.mock.pytest import llmpool_routes

def test_it(llmpool_routes):
    llmpool_routes.get("/v1/models").respond(json={"data": []})
"""

from typing import Iterator

import pytest

from ._routes import Routes

__all__ = ["llmpool_routes"]


@pytest.fixture
def llmpool_routes() -> Iterator[Routes]:
    """Routes that are active while the test runs; see llmpool.mock.Routes."""
    with Routes() as routes:
        yield routes
