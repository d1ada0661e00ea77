"""Applications: which functions a module offers, and how they are loaded anew."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.execution import definition_of
from perdure.worker.apps import AppLoader
from perdure.worker.loading import NotLoaded

ORDERS = """
from perdure import durable_execution
from prices import PRICE

@durable_execution
def order(event, context):
    return PRICE

@durable_execution(name="refund-it")
def refund(event, context):
    return -PRICE

again = refund

def handler(event, context):
    return "plain"

def charge(event, context):
    return "charged"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "orders.py").write_text(ORDERS)
    (tmp_path / "prices.py").write_text("PRICE = 5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def result_of(loader: AppLoader, name: str) -> object:
    definition = definition_of(loader.load().functions[name])
    assert definition is not None
    return definition.handler({}, None)


@pytest.mark.parametrize("reference", ["orders.py", "orders", "./orders.py"])
def test_an_application_is_the_durable_functions_of_a_module_and_its_plain_handler(
    folder: Path, reference: str
) -> None:
    app = AppLoader(reference).load()
    assert list(app.functions) == ["orders-order", "refund-it", "orders-handler"]
    assert app.files == {folder / "orders.py", folder / "prices.py"}


def test_functions_can_be_named_plain_ones_too(folder: Path) -> None:
    assert list(AppLoader("orders.py:order, charge").load().functions) == ["orders-order", "orders-charge"]


def test_loading_again_is_loading_anew_with_the_neighbours(folder: Path) -> None:
    loader = AppLoader("orders.py")
    assert result_of(loader, "orders-order") == 5
    (folder / "prices.py").write_text("PRICE = 6\n")
    assert result_of(loader, "orders-order") == 6
    assert result_of(loader, "refund-it") == -6


def test_the_modules_of_a_package_are_neighbours(folder: Path) -> None:
    (folder / "shop").mkdir()
    (folder / "shop" / "__init__.py").write_text("")
    (folder / "shop" / "orders.py").write_text(ORDERS.replace("from prices", "from shop.prices"))
    (folder / "shop" / "prices.py").write_text("PRICE = 5\n")
    loader = AppLoader("shop.orders")
    assert result_of(loader, "orders-order") == 5
    (folder / "shop" / "prices.py").write_text("PRICE = 7\n")
    assert result_of(loader, "orders-order") == 7
    assert loader.files == {folder / "shop" / name for name in ("__init__.py", "orders.py", "prices.py")}


def test_code_that_can_not_be_loaded_leaves_what_was_loaded_and_is_looked_at_again(folder: Path) -> None:
    loader = AppLoader("orders.py")
    loader.load()
    before = sys.modules["orders"], sys.modules["prices"]
    (folder / "orders.py").write_text("import taxes\n" + ORDERS)
    (folder / "taxes.py").write_text("def broken(:\n")
    with pytest.raises(NotLoaded, match=r"SyntaxError: invalid syntax \(taxes.py, line 1\)"):
        loader.load()
    assert (sys.modules["orders"], sys.modules["prices"]) == before
    assert folder / "taxes.py" in loader.files, "so that its repair is seen"
    (folder / "taxes.py").write_text("")
    assert result_of(loader, "orders-order") == 5


@pytest.mark.parametrize(
    ("reference", "text", "said"),
    [
        (":order", "", "':order' names no module"),
        ("none.py", "", "there is no file none.py"),
        ("nothing_there", "", "there is no module 'nothing_there'"),
        ("app.py", "x = 1", "app.py has no functions"),
        ("app.py:order", "x = 1", "app.py has no 'order'"),
        ("app.py:x", "x = 1", "app.py:x is a int"),
        ("app.py", "raise ValueError('no')", r"app.py can't be imported: ValueError: no \(app.py, line 1\)"),
        (
            "app.py",
            "from perdure import durable_execution as d\n@d(name='a')\ndef f(e, c): 0\n@d(name='a')\ndef g(e, c): 0",
            "app.py has two functions called 'a'",
        ),
    ],
)
def test_what_is_no_application_is_refused(folder: Path, reference: str, text: str, said: str) -> None:
    (folder / "app.py").write_text(text)
    with pytest.raises(NotLoaded, match=said):
        AppLoader(reference).load()
