"""A job is given to a slow service, which is asked again and again, with growing pauses, until the job is done.

    submit (retried while the service is busy) → look → 1 s → look → 2 s → look → 4 s → … → done

Between two looks nothing runs; a restart goes on with the state of the last one. The service gets the idempotency key
of the step, so that a job that was submitted by an attempt that died is not submitted twice.

Try it, with the service in another terminal:

    python examples/polling/fake_api.py 8123
    perdure run examples/polling/polling.py:handler -e '{"api": "http://127.0.0.1:8123", "film": "crema"}'
"""

import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from perdure import (
    DurableContext,
    JitterStrategy,
    RetryPresets,
    StepConfig,
    StepContext,
    WaitForConditionConfig,
    WaitForConditionError,
    durable_execution,
    durable_step,
    exponential_wait,
)

BUSY = StepConfig(retry_strategy=RetryPresets.critical())
ANSWER_S = 10


def call(request: Request) -> dict[str, Any]:
    """The JSON that the service answers with; ConnectionError if it refuses."""
    try:
        with urlopen(request, timeout=ANSWER_S) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except HTTPError as refused:
        with refused:
            raise ConnectionError(f"the service answered {refused.code} {refused.reason}") from None


@durable_step
def submit(step: StepContext, api: str, film: str) -> str:
    headers = {"Content-Type": "application/json", "Idempotency-Key": step.idempotency_key}
    job = call(Request(f"{api}/jobs", json.dumps({"film": film}).encode(), headers))
    return str(job["id"])


@durable_execution(name="render")
def handler(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
    job_id = context.step(submit(event["api"], event["film"]), config=BUSY)

    def look(state: dict[str, Any]) -> dict[str, Any]:
        try:
            return call(Request(f"{event['api']}/jobs/{job_id}"))
        except OSError as error:  # a check is not retried: what may pass has to be a state
            return {**state, "trouble": str(error)}

    patience = exponential_wait(
        lambda job: job["state"] != "done",
        initial_delay=1,
        max_delay=60,
        backoff_rate=2,
        max_attempts=event.get("looks", 20),
        jitter=JitterStrategy.NONE,
    )
    try:
        job = context.wait_for_condition(
            look, WaitForConditionConfig(patience, {"state": "submitted"}), name="rendered"
        )
    except WaitForConditionError as error:
        return {"film": event["film"], "state": "given up", "why": str(error)}
    return {"film": event["film"], "state": job["state"], "url": job["url"]}
