import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import both


@pytest.fixture(params=both.CALLERS)
def caller(request):
    return both.Caller(*request.param)


@pytest.fixture(params=both.NAMES)
def name(request):
    """A generation."""
    return request.param
