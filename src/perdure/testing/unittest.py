"""For tests that are unittest's: a mixin whose runners are closed when their test ends.

class OrderTest(DurableTestCase, unittest.TestCase):
    def test_an_order_is_charged(self):
        self.durable_runner(order).run({"sku": "tea"}).assert_succeeded()
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.testing.runner import Runner


class DurableTestCase:
    """To be mixed into a `unittest.TestCase`."""

    if TYPE_CHECKING:

        def addCleanup(self, function: Callable[..., Any], /, *args: Any) -> None: ...  # noqa: N802 - unittest's name

    def durable_runner(self, handler: Callable[..., Any], **options: Any) -> "Runner":
        """A runner for a handler; `options` are those of LocalRunner. Under pytest `--perdure-mode` says which kind."""
        from perdure.testing.modes import make_runner

        runner: Runner = make_runner(handler, **options)
        self.addCleanup(runner.close)
        return runner
