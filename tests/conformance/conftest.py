"""What the tests of the wire are given: a node with boto3 clients, and functions that the test plays itself."""

from collections.abc import Iterator

import pytest

from support.raw import RawFunction
from support.served import Served, serving


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A node with its store in memory, and a clock that only a test moves; for all tests of a file."""
    with serving() as served:
        yield served


@pytest.fixture
def function(served: Served) -> RawFunction:
    """A durable function, new for each test."""
    return served.function()
