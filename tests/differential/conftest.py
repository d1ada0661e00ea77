"""The official SDK as a yardstick: quick at the end of an invocation, and silent about crashes that are meant to be."""

import logging
from collections.abc import Iterator

import pytest

from support.sdks import quick_official_sdk


@pytest.fixture(autouse=True)
def _official_sdk() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    with quick_official_sdk():
        yield
    logging.disable(logging.NOTSET)
