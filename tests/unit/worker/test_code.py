"""The hash of a worker's code."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from perdure.worker import code as coding
from perdure.worker.code import Code, code_of
from perdure.worker.loading import NotLoaded, load_functions

Load = Callable[[Path, str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Import a module from a folder, as if nothing of the name had been there before."""
    before = set(sys.modules)

    def fresh(folder: Path, name: str) -> ModuleType:
        for known in set(sys.modules) - before:
            del sys.modules[known]
        monkeypatch.syspath_prepend(str(folder))
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield fresh
    for known in set(sys.modules) - before:
        del sys.modules[known]


def shop(folder: Path, *, price: int = 3, note: str = "") -> Path:
    """A package with a module beside it, and what does not belong to the code."""
    package = folder / "shop"
    (package / "parts").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "orders.py").write_text("import prices\nfrom shop.parts import beans\n")
    (package / "parts" / "__init__.py").write_text("")
    (package / "parts" / "beans.py").write_text("")
    (package / "unused.py").write_text("")
    (package / "menu.txt").write_text(note)
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__" / "x.py").write_text(note)
    (folder / "prices.py").write_text(f"PRICE = {price}\n")
    (folder / "stranger.py").write_text(note)
    return folder


def test_the_same_files_have_the_same_hash_wherever_they_lie(tmp_path: Path, load: Load) -> None:
    """Data, caches, and modules beside the package that nothing imports, are no part of it."""
    one = code_of([load(shop(tmp_path / "one"), "shop.orders")])
    two = code_of([load(shop(tmp_path / "two", note="other"), "shop.orders")])
    assert one == two
    assert one.files == 6


def test_a_change_in_what_is_imported_from_beside_changes_the_hash(tmp_path: Path, load: Load) -> None:
    one = code_of([load(shop(tmp_path / "one"), "shop.orders")])
    two = code_of([load(shop(tmp_path / "two", price=4), "shop.orders")])
    assert one.sha256 != two.sha256


def test_a_change_anywhere_in_the_package_changes_the_hash(tmp_path: Path, load: Load) -> None:
    """What is imported later counts, too."""
    one = code_of([load(shop(tmp_path / "one"), "shop.orders")])
    module = load(shop(tmp_path / "two"), "shop.orders")
    (tmp_path / "two" / "shop" / "unused.py").write_text("1\n")
    assert one.sha256 != code_of([module]).sha256


def test_a_file_s_name_is_part_of_the_code(tmp_path: Path, load: Load) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "first.py").write_text("x = 1\n")
    (tmp_path / "a" / "second.py").write_text("x = 1\n")
    one, two = code_of([load(tmp_path / "a", "first")]), code_of([load(tmp_path / "a", "second")])
    assert (one.files, two.files) == (1, 1)
    assert one.sha256 != two.sha256


def test_what_is_installed_is_no_part_of_it(tmp_path: Path, load: Load) -> None:
    site = tmp_path / "venv" / "lib" / "site-packages"
    site.mkdir(parents=True)
    (site / "library.py").write_text("x = 1\n")
    (tmp_path / "app.py").write_text("import json, pytest, library\n")
    sys.path.insert(0, str(site))
    try:
        assert code_of([load(tmp_path, "app")]).files == 1
    finally:
        sys.path.remove(str(site))


def test_code_has_bounds(tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(shop(tmp_path / "one"), "shop.orders")
    monkeypatch.setattr(coding, "FILES_MAX", 3)
    with pytest.raises(NotLoaded, match="has 6 files and ") as raised:
        code_of([module])
    assert raised.value.hint.startswith("keep handlers in a package of their own")


def test_a_module_without_a_file_has_no_code() -> None:
    with pytest.raises(NotLoaded, match="module made has no file"):
        code_of([ModuleType("made")])


# --- the functions of a module -----------------------------------------------------------------------------------

MODULE = """
from perdure import durable_execution

@durable_execution(name="order")
def order(event, context):
    return 1

@durable_execution
async def refund(event, context):
    return 2

def plain(event, context):
    return 3

async def loose(event, context):
    return 4

PRICE = 5
"""


@pytest.fixture
def module(tmp_path: Path, load: Load) -> Path:
    path = tmp_path / "workershop.py"
    path.write_text(MODULE)
    return path


def test_without_names_the_durable_functions_of_a_module_are_meant(module: Path) -> None:
    found = load_functions(str(module))
    assert set(found.functions) == {"order", "workershop-refund"}
    assert found.module.__name__ == "workershop"


def test_named_functions_may_be_plain(module: Path) -> None:
    assert set(load_functions(f"{module}:order, plain").functions) == {"order", "workershop-plain"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (":nothing", "has no 'nothing'"),
        (":PRICE", ":PRICE is a int"),
        (":order,loose", ":loose is an `async def` that is not durable"),
    ],
)
def test_what_is_no_function_of_a_worker_is_refused(module: Path, names: str, message: str) -> None:
    with pytest.raises(NotLoaded, match=message):
        load_functions(f"{module}{names}")


def test_a_module_without_durable_functions_needs_names(tmp_path: Path, load: Load) -> None:
    (tmp_path / "empty_module.py").write_text("def f(event, context):\n    return 1\n")
    with pytest.raises(NotLoaded, match="has no durable function"):
        load_functions(str(tmp_path / "empty_module.py"))
    assert isinstance(code_of([load_functions(f"{tmp_path / 'empty_module.py'}:f").module]), Code)
