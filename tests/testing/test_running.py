"""A local runner runs a durable function to its end."""

from datetime import timedelta

from perdure import DurableContext, durable_execution
from perdure.testing import LocalRunner


@durable_execution
def patient(event: dict[str, int], context: DurableContext) -> int:
    first = context.step(lambda _: event["n"], name="first")
    context.wait(86_400, name="a day")
    return first + context.step(lambda _: 2, name="second")


def test_a_wait_of_a_day_takes_a_modelled_day_and_no_time() -> None:
    with LocalRunner(patient) as runner:
        result = runner.run({"n": 1})
    assert (result.status, result.result) == ("SUCCEEDED", 3)
    assert result.duration == timedelta(days=1)
    assert [each.status for each in result.invocations] == ["PENDING", "SUCCEEDED"]
