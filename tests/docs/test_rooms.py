"""Imports point down, and the drawing of them is that of the code."""

import importlib.util
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MAY_IMPORT = {
    "model": set(),
    "wire": {"model"},
    "client": {"wire", "model"},
    "engine": {"model"},
    "store": {"model"},
    "service": {"engine", "store", "model"},
    "runtimes": {"service", "engine", "store", "wire", "model"},
    "sdk": {"model", "wire", "sdk (public modules)"},
    "sdk (public modules)": {"model", "wire", "sdk", "worker", "testing"},
    "worker": {"service", "sdk", "sdk (public modules)", "engine", "store", "wire", "model"},
    "api": {"runtimes", "service", "engine", "store", "wire", "model", "identity"},
    "identity": {"store", "wire", "model"},
    "sam": {"model"},
    "server": {
        "api",
        "identity",
        "runtimes",
        "sam",
        "worker",
        "service",
        "sdk (public modules)",
        "engine",
        "store",
        "wire",
        "model",
    },
    "testing": {
        "server",
        "client",
        "worker",
        "service",
        "sdk",
        "sdk (public modules)",
        "engine",
        "store",
        "wire",
        "model",
    },
    "cli": {
        "testing",
        "server",
        "api",
        "client",
        "identity",
        "runtimes",
        "sam",
        "worker",
        "service",
        "sdk",
        "sdk (public modules)",
        "engine",
        "store",
        "wire",
        "model",
    },
}
"""The package itself offers `perdure.open`, which loads the worker when it is first used, and a durable function its
`check_determinism`, which loads the test kit."""


def tool() -> Any:
    spec = importlib.util.spec_from_file_location("draw_rooms", ROOT / "tools" / "draw_rooms.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_room_imports_one_above_it() -> None:
    arrows = set(tool().arrows())
    assert {here for here, _ in arrows} <= set(MAY_IMPORT)
    assert {(here, there) for here, there in arrows if there not in MAY_IMPORT[here]} == set()


def test_the_drawing_is_that_of_the_imports() -> None:
    page = (ROOT / "docs" / "explanation" / "rooms.md").read_text("utf-8")
    assert tool().drawing() in page, "run python tools/draw_rooms.py --write"
