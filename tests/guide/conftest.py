"""Pages of programs, written for the official SDK, each run by it and by Perdure's: nothing but the root is changed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.local import Outcome
from support.sdks import OFFICIAL, PERDURE, Ground, Sdk, quick_official_sdk

PAGES = Path(__file__).with_name("pages")


class Page:
    """The names that a page defines, and its handlers on the ground."""

    def __init__(self, sdk: Sdk, name: str) -> None:
        source = (PAGES / f"{name}.py").read_text()
        self.sdk = sdk
        self.loaded = {each: each.load(source, name) for each in {sdk, PERDURE}}

    def __getattr__(self, name: str) -> Any:
        return self.loaded[self.sdk][name]

    def ground(self, handler: str) -> Ground:
        sources = {sdk: {"main": names[handler], **names.get("FUNCTIONS", {})} for sdk, names in self.loaded.items()}
        return Ground(sources, self.sdk)

    def run(self, handler: str, event: Any = None) -> Outcome:
        """Run an execution over all its waits; nobody answers its callbacks."""
        return self.ground(handler).run_answering(event if event is not None else {}, lambda _ground, _callback: False)

    def error_type(self, name: str) -> str:
        """How this SDK records one of its errors."""
        return f"{self.sdk.root}.exceptions.{name}"


class Book:
    """Opens pages for one SDK."""

    def __init__(self, sdk: Sdk) -> None:
        self.sdk = sdk

    def __call__(self, name: str) -> Page:
        return Page(self.sdk, name)


@pytest.fixture(params=[OFFICIAL, PERDURE], ids=["official", "perdure"])
def page(request: pytest.FixtureRequest) -> Iterator[Book]:
    with quick_official_sdk():
        yield Book(request.param)
