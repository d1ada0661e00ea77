"""`perdure worker`: what is told to who gets it wrong."""

from pathlib import Path

import pytest

from cli.conftest import Cli
from perdure.cli.exits import Exit
from perdure.identity import keys
from perdure.server.node import Node
from perdure.store.memory import MemoryStore

MODULE = """
from perdure import durable_execution

@durable_execution(name="order")
def order(event, context):
    return 1
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "worker_orders.py"
    path.write_text(MODULE)
    return path


def test_a_worker_of_nothing_is_refused(cli: Cli, module: Path) -> None:
    assert "there is no file nothing.py" in cli("worker", "nothing.py", code=Exit.USAGE).err
    assert "has no 'refund'" in cli("worker", f"{module}:refund", code=Exit.USAGE).err
    said = cli("worker", str(module), "--functions", "refund", code=Exit.USAGE)
    assert "there is no function 'refund'. Hint: there are order" in said.err
    other = module.parent / "worker_more.py"
    other.write_text(MODULE)
    said = cli("worker", str(module), str(other), code=Exit.USAGE)
    assert "two handlers are called 'order'" in said.err


def test_a_worker_needs_a_url(cli: Cli, module: Path) -> None:
    said = cli("worker", str(module), "--endpoint", "localhost:9014", code=Exit.USAGE)
    assert "an endpoint is written http://HOST:PORT" in said.err


def test_a_server_that_does_not_take_a_worker_says_why(cli: Cli, module: Path) -> None:
    store = MemoryStore()
    keys.create_key(store, "ada", ("admin",), now_ms=0)
    with Node(store) as node:
        said = cli("worker", str(module), "--endpoint", node.url, code=Exit.DENIED)
    assert "does not take this worker: Missing Authentication Token" in said.err
    assert "with the policy `worker`" in said.err
