"""The reference of the public modules is that of their sources."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

import perdure

ROOT = Path(__file__).resolve().parents[2]


def load() -> Any:
    spec = importlib.util.spec_from_file_location("write_reference", ROOT / "tools" / "write_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tool() -> Any:
    return load()


def test_the_pages_are_those_of_the_sources(tool: Any) -> None:
    assert tool.stale() == [], "run python tools/write_reference.py --write"


def test_every_name_of_the_package_is_on_a_page(tool: Any) -> None:
    """On its own page, in the words of its home."""
    pages = tool.pages()
    for name in perdure.__all__:
        if name != "__version__":
            assert f"`{name}`" in pages["perdure.md"], name


def test_a_page_has_signatures_defaults_and_what_is_inherited(tool: Any) -> None:
    pages = tool.pages()
    config = pages["perdure.config.md"]
    assert "| `step_semantics` | `StepSemantics` | `StepSemantics.AT_LEAST_ONCE_PER_RETRY` |" in config
    assert "from_hours(value: float) -> Duration" in config
    assert "set_fields" not in config
    assert "| `max_attempts` | `int` | `3` |" in pages["perdure.retries.md"]
    context = pages["perdure.context.md"]
    assert "wait(duration: DurationLike, name: str | None = None) -> None" in context
    assert "func: Callable[[], T],\n" in context
    assert "### `DurableContext.uuid4`" in context, "a method of a base that is no public name"
    assert "| `durable_execution` | [`perdure.execution`](perdure.execution.md) | Mark " in pages["perdure.md"]


def test_the_table_of_time_limits_is_that_of_the_signatures() -> None:
    spec = importlib.util.spec_from_file_location("write_time_limits", ROOT / "tools" / "write_time_limits.py")
    assert spec is not None
    assert spec.loader is not None
    limits = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(limits)
    page: Path = limits.PAGE
    assert limits.table() in page.read_text("utf-8"), "run python tools/write_time_limits.py --write"
