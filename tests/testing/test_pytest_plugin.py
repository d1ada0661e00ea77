"""The pytest plugin, in real runs of pytest."""

from pathlib import Path

import pytest

from perdure.testing import ServerRunner
from support.plugin import run_pytest

ORDERS = """
from perdure import DurableContext, durable_execution
from perdure.config import CallbackConfig, Duration


@durable_execution(name="order")
def order(event, context: DurableContext):
    context.logger.warning("an order of %s", event["sku"])
    price = context.step(lambda _: 12, name="price")
    context.wait(1, name="cool-down")
    said = context.create_callback(name="barista").result()
    return context.step(lambda _: f"{event['sku']} for {price}, {said}", name="serve")
"""

TESTS = """
from datetime import timedelta
import pytest
from orders import order


def test_an_order_is_served(perdure_runner):
    run = perdure_runner(order).start({"sku": "tea"})
    run.callback("barista").succeed("with milk")
    result = run.result()
    result.assert_succeeded("tea for 12, with milk")
    result.assert_operations(["price", "cool-down", "barista", "serve"])
    assert result.op("price").value == 12
    assert result.duration >= timedelta(seconds=1)


@pytest.mark.durable(handler=order, input={"sku": "coffee"})
def test_a_marked_test_needs_to_say_less(perdure_runner):
    runner = perdure_runner()
    runner.auto_callback("barista", "black")
    runner.run({"sku": "coffee"}).assert_succeeded("coffee for 12, black")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "orders.py").write_text(ORDERS)
    (tmp_path / "test_orders.py").write_text(TESTS)
    return tmp_path


def test_the_same_test_passes_in_this_process_and_at_a_server(folder: Path) -> None:
    """[T19]"""
    for mode in ("local", "server"):
        ran = run_pytest(folder, "--perdure-mode", mode)
        assert "2 passed" in ran.output, ran.output


def test_the_same_test_passes_against_functions_that_are_deployed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[T19]"""
    monkeypatch.syspath_prepend(folder)
    with ServerRunner(str(folder / "orders.py"), skip_time=False) as server:
        ran = run_pytest(folder, "--perdure-mode", "remote", "--perdure-endpoint", server.url)
        assert "2 passed" in ran.output, ran.output
        assert "mode remote" in ran.output


FAILING = """
from orders import order


def test_an_order_is_free(perdure_runner):
    runner = perdure_runner(order).auto_callback("barista", "black")
    assert runner.run({"sku": "tea"}).result == "nothing"


def test_an_order_is_served_without_a_barista(perdure_runner):
    execution = perdure_runner(order).start({"sku": "tea"})
    execution.result(wall_timeout=0.5)


def test_that_begins_nothing(perdure_runner):
    perdure_runner(order)
    raise AssertionError
"""


def test_a_failure_shows_what_the_executions_came_to(folder: Path) -> None:
    """[T20]"""
    (folder / "test_orders.py").write_text(FAILING)
    ran = run_pytest(folder)
    assert "3 failed" in ran.output
    _, served, waiting, none = ran.output.split("durable execution")
    for part in ("└─ serve", "'tea for 12, black'", "ExecutionSucceeded", "an order of tea", "StepSucceeded 'serve'"):
        assert part in served
    assert "CALLBACK STARTED" in waiting
    assert "callback id" in waiting
    assert "no execution was begun" in none


def test_tests_of_four_processes_pass_in_each_mode(folder: Path) -> None:
    """[T20]"""
    tests = [
        f"def test_{number}(perdure_runner):\n"
        f"    runner = perdure_runner(order).auto_callback('barista', 'black')\n"
        f"    runner.run({{'sku': 'tea {number}'}}).assert_succeeded('tea {number} for 12, black')\n"
        for number in range(24)
    ]
    (folder / "test_orders.py").write_text("from orders import order\n\n\n" + "\n\n".join(tests))
    for mode in ("local", "server"):
        ran = run_pytest(folder, "-n", "4", "--perdure-mode", mode)
        assert "24 passed" in ran.output, ran.output


def test_a_failure_in_another_process_shows_its_tree_too(folder: Path) -> None:
    """[T20]"""
    (folder / "test_orders.py").write_text(FAILING)
    ran = run_pytest(folder, "-n", "2")
    assert "└─ serve" in ran.output


def test_without_the_plugin_its_fixtures_are_not_there(folder: Path) -> None:
    ran = run_pytest(folder, "-p", "no:perdure")
    assert "fixture 'perdure_runner' not found" in ran.output
    ran = run_pytest(folder, "-p", "no:perdure", "--perdure-mode", "server")
    assert "unrecognized arguments: --perdure-mode" in ran.output


def test_the_plugin_loads_nothing_before_it_is_used(folder: Path) -> None:
    (folder / "test_orders.py").write_text(
        "import sys\n\n\ndef test_nothing():\n"
        "    loaded = {name for name in sys.modules if name.partition('.')[0] in ('perdure', 'msgspec', 'uvicorn')}\n"
        "    assert loaded <= {'perdure', 'perdure.__about__', 'perdure.testing', 'perdure.testing.pytest_plugin'}\n"
    )
    (folder / "orders.py").unlink()
    ran = run_pytest(folder)
    assert "1 passed" in ran.output, ran.output


def test_histories_are_kept_and_later_code_is_tried_on_them(folder: Path) -> None:
    histories = folder / "histories"
    ran = run_pytest(folder, "--perdure-save-history", str(histories))
    assert "2 passed" in ran.output, ran.output
    names = sorted(path.name for path in histories.iterdir())
    assert names == [
        "test_orders.py-test_a_marked_test_needs_to_say_less-1.history.json",
        "test_orders.py-test_an_order_is_served-1.history.json",
    ]
    ran = run_pytest(folder, "--perdure-replay", str(histories))
    assert "2 passed" in ran.output, ran.output
    (folder / "orders.py").write_text(ORDERS.replace('    context.wait(1, name="cool-down")\n', ""))
    ran = run_pytest(folder, "--perdure-replay", str(histories), "-k", "marked")
    assert "2 of 2 histories are incompatible" in ran.output, ran.output
    assert "cool-down" in ran.output


def test_snapshots_are_written_anew_when_that_is_asked_for(folder: Path) -> None:
    (folder / "test_orders.py").write_text(
        "from orders import order\nfrom perdure.testing import snapshot\n\n\n"
        "def test_an_order(perdure_runner):\n"
        "    snapshot(perdure_runner(order).auto_callback('barista', 'black').run({'sku': 'tea'}))\n"
    )
    assert "1 passed" in run_pytest(folder, "--perdure-update").output
    assert "1 passed" in run_pytest(folder).output
    (folder / "orders.py").write_text(ORDERS.replace("12", "13"))
    assert "1 failed" in run_pytest(folder).output
    assert "1 passed" in run_pytest(folder, "--perdure-update").output
    assert "1 passed" in run_pytest(folder).output


def test_names_of_deployed_functions_come_from_a_map(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    names = folder / "names.json"
    names.write_text('{"order": "order:1"}')
    with ServerRunner(str(folder / "orders.py"), skip_time=False) as server:
        given = ("--perdure-mode", "remote", "--perdure-function-map", str(names))
        ran = run_pytest(folder, *given, "-k", "served", PERDURE_ENDPOINT=server.url)
        assert "1 passed" in ran.output, ran.output
        names.write_text('{"order": "elsewhere"}')
        assert "Function not found" in run_pytest(folder, *given, "-k", "served", PERDURE_ENDPOINT=server.url).output
    names.write_text("[1]")
    assert "--perdure-function-map can't be read" in run_pytest(folder, *given).output


def test_real_time_can_be_had(folder: Path) -> None:
    (folder / "test_orders.py").write_text(
        "from orders import order\n\n\n"
        "def test_an_order(perdure_runner, perdure_clock):\n"
        "    assert perdure_clock.is_real\n"
        "    assert perdure_runner(order).clock is perdure_clock\n\n\n"
        "def test_another(perdure_runner):\n"
        "    assert perdure_runner(order, skip_time=True).clock.is_real\n"
    )
    assert "2 passed" in run_pytest(folder, "--perdure-real-time").output
    assert "2 failed" in run_pytest(folder).output


def test_the_clock_of_a_tests_runners_is_a_fixture(folder: Path) -> None:
    (folder / "test_orders.py").write_text(
        "from datetime import timedelta\nfrom orders import order\n\n\n"
        "def test_an_order(perdure_clock, perdure_runner):\n"
        "    perdure_clock.auto = False\n"
        "    execution = perdure_runner(order).start({'sku': 'tea'})\n"
        "    before = perdure_clock.now()\n"
        "    perdure_clock.advance(1)\n"
        "    assert perdure_clock.now() - before == timedelta(seconds=1)\n"
        "    execution.callback('barista').succeed('black')\n"
        "    execution.result().assert_succeeded()\n"
    )
    for mode in ("local", "server"):
        ran = run_pytest(folder, "--perdure-mode", mode)
        assert "1 passed" in ran.output, ran.output


def test_a_server_is_a_fixture(folder: Path) -> None:
    (folder / "test_orders.py").write_text(
        "from orders import order\n\n\n"
        "def test_an_order(perdure_server):\n"
        "    perdure_server.register_durable_function('order', order)\n"
        "    (function,) = perdure_server.boto3().list_functions()['Functions']\n"
        "    assert function['FunctionName'] == 'order'\n"
        "    perdure_server.auto_callback('barista', 'black').run({'sku': 'tea'}).assert_succeeded()\n\n\n"
        "def test_one(perdure_server_session):\n"
        "    perdure_server_session.register_durable_function('order', order)\n\n\n"
        "def test_another(perdure_server_session, perdure_server):\n"
        "    functions = perdure_server_session.client.call('ListFunctions')['Functions']\n"
        "    assert [each['FunctionName'] for each in functions] == ['order']\n"
        "    assert perdure_server.client.call('ListFunctions')['Functions'] == []\n"
    )
    ran = run_pytest(folder)
    assert "3 passed" in ran.output, ran.output


@pytest.mark.parametrize(
    ("options", "mark"), [(("-o", "asyncio_mode=auto", "-p", "no:anyio"), ""), (("-p", "no:asyncio"), "anyio")]
)
def test_runners_work_in_tests_that_are_coroutines(folder: Path, options: tuple[str, ...], mark: str) -> None:
    """[T20] With pytest-asyncio, and with the plugin of anyio."""
    (folder / "conftest.py").write_text(
        "import pytest\n\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    )
    (folder / "test_orders.py").write_text(
        "import pytest\nfrom perdure import durable_execution\nfrom perdure.testing import AsyncLocalRunner\n\n"
        f"pytestmark = [{f'pytest.mark.{mark}' if mark else ''}]\n\n\n"
        "@durable_execution(name='later')\n"
        "async def later(event, context):\n"
        "    await context.wait(3600)\n"
        "    return event\n\n\n"
        "async def test_later(perdure_runner):\n"
        "    perdure_runner(later).run(3).assert_succeeded(3)\n\n\n"
        "async def test_awaited():\n"
        "    async with AsyncLocalRunner(later) as runner:\n"
        "        (await runner.run(4)).assert_succeeded(4)\n"
    )
    for mode in ("local", "server"):
        ran = run_pytest(folder, "--perdure-mode", mode, *options)
        assert "2 passed" in ran.output, ran.output


def test_a_test_case_of_unittest_has_runners_too(folder: Path) -> None:
    (folder / "test_orders.py").write_text(
        "import threading\nimport unittest\nfrom orders import order\nfrom perdure.testing import DurableTestCase\n\n\n"
        "class OrderTest(DurableTestCase, unittest.TestCase):\n"
        "    def test_an_order(self):\n"
        "        runner = self.durable_runner(order).auto_callback('barista', 'black')\n"
        "        runner.run({'sku': 'tea'}).assert_succeeded()\n\n"
        "    @classmethod\n"
        "    def tearDownClass(cls):\n"
        "        assert threading.active_count() == 1\n"
    )
    for mode in ("local", "server"):
        ran = run_pytest(folder, "--perdure-mode", mode)
        assert "1 passed" in ran.output, ran.output


def test_a_misspelt_environment_variable_is_warned_of(folder: Path) -> None:
    """[T17]"""
    ran = run_pytest(folder, PERDURE_ENDPONT="http://127.0.0.1:1")
    assert "the environment variable PERDURE_ENDPONT is not read; did you mean PERDURE_ENDPOINT?" in ran.output
    assert "2 passed, 1 warning" in ran.output


def test_each_execution_of_a_test_is_run_again_with_a_crash_at_every_point(folder: Path) -> None:
    (folder / "counting.py").write_text(
        "from perdure import durable_execution\n\n"
        "bodies = 0\nkept = []\n\n\n"
        "@durable_execution(name='steady')\n"
        "def steady(event, context):\n"
        "    def body(_):\n"
        "        global bodies\n"
        "        bodies += 1\n"
        "        return event\n\n"
        "    said = context.wait_for_callback(lambda *_: None, name='ask')\n"
        "    return [context.step(body, name='a'), said]\n\n\n"
        "@durable_execution(name='unsteady')\n"
        "def unsteady(event, context):\n"
        "    context.step(lambda _: kept.__setitem__(slice(None), ['a word']), name='keep')\n"
        "    return context.step(lambda _: kept.pop() if kept else 'lost', name='take')\n"
    )
    (folder / "test_orders.py").write_text(
        "import counting\n\n\n"
        "def test_steady(perdure_runner):\n"
        "    execution = perdure_runner(counting.steady).start(3)\n"
        "    execution.callback('ask').succeed('yes')\n"
        "    execution.result().assert_succeeded([3, 'yes'])\n"
        "    assert counting.bodies == 1\n\n\n"
        "def test_that_it_was_run_again():\n"
        "    assert counting.bodies > 10\n\n\n"
        "def test_unsteady(perdure_runner):\n"
        "    perdure_runner(counting.unsteady).run().assert_succeeded()\n"
    )
    ran = run_pytest(folder, "--perdure-crash-everywhere")
    assert "1 failed, 2 passed" in ran.output, ran.output
    assert "crashes everywhere" in ran.output
    assert "CrashCheckFailed" in ran.output
    refused = run_pytest(folder, "--perdure-crash-everywhere", "--perdure-mode", "server")
    assert "--perdure-crash-everywhere is for --perdure-mode local" in refused.output
