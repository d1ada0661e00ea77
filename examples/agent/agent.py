"""An agent: a language model that calls tools until it has an answer, and asks a person before it spends money.

    model → tools, beside each other → model → refund: approved? → model → answer

Each answer of the model is a step: it is paid for once, whatever dies. Each call of a tool is a child context, so that
several run beside each other, and one may wait for a person for a week while nothing runs. The handler is `async def`:
a thousand conversations that wait for the model share one thread.

Try it, with the model in another terminal, and answer with the callback id of `perdure callback list`:

    python examples/agent/fake_model.py 8124
    perdure run examples/agent/agent.py:handler --wait \\
        -e '{"model": "http://127.0.0.1:8124/chat", "question": "The grinder of order A-17 arrived broken."}'
    perdure callback succeed ID -r yes
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from perdure import (
    AsyncDurableContext,
    CallbackTimeoutError,
    Duration,
    RetryStrategyConfig,
    StepConfig,
    StepContext,
    WaitForCallbackConfig,
    create_retry_strategy,
    durable_execution,
    durable_step,
)

Message = dict[str, Any]
ANSWER_S = 120
TURNS_MAX = 10
OVERLOADED = StepConfig(
    retry_strategy=create_retry_strategy(
        RetryStrategyConfig(max_attempts=8, initial_delay=Duration(1), retryable_error_types=[OSError, TimeoutError])
    )
)


# --- the model ---------------------------------------------------------------------------------------------------


@durable_step
async def ask_model(step: StepContext, url: str, messages: list[Message]) -> Message:
    async with asyncio.timeout(ANSWER_S):
        return await post(url, {"messages": messages})


async def post(url: str, body: Message) -> Message:
    """POST with nothing but the standard library; ConnectionError unless the answer is 200."""
    parts = urlsplit(url)
    text = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        head = f"POST {parts.path} HTTP/1.0\r\nHost: {parts.netloc}\r\nContent-Length: {len(text)}\r\n\r\n"
        writer.write(head.encode() + text)
        status, _, answer = (await reader.read()).partition(b"\r\n")
    finally:
        writer.close()
        await writer.wait_closed()
    if b" 200 " not in status:
        raise ConnectionError(f"the model answered {status.decode()!r}")
    said: Message = json.loads(answer.partition(b"\r\n\r\n")[2])
    return said


# --- the tools ---------------------------------------------------------------------------------------------------


async def find_order(context: AsyncDurableContext, order: str) -> Any:
    return await context.step(lambda _: {"order": order, "what": "grinder", "cents": 1890}, name="read-order")


async def find_customer(context: AsyncDurableContext, customer: str) -> Any:
    return await context.step(lambda _: {"customer": customer, "since": 2019}, name="read-customer")


async def refund(context: AsyncDurableContext, order: str, cents: int) -> Any:
    try:
        answer = await context.wait_for_callback(
            lambda callback_id: print(f"refund {cents} cents of order {order}? Answer yes or no to {callback_id}"),
            name="approval",
            config=WaitForCallbackConfig(timeout={"days": 7}),
        )
    except CallbackTimeoutError:
        answer = "nobody answered"
    if answer != "yes":
        return {"refunded": 0, "why": answer}
    return await context.step(lambda step: {"refunded": cents, "key": step.idempotency_key}, name="pay-back")


TOOLS: dict[str, Callable[..., Awaitable[Any]]] = {
    "find_order": find_order,
    "find_customer": find_customer,
    "refund": refund,
}


# --- the loop ----------------------------------------------------------------------------------------------------


async def use_tool(context: AsyncDurableContext, call: Message) -> Message:
    """What a tool says to one call; a tool that fails says so to the model."""
    try:
        result = await TOOLS[call["name"]](context, **call["arguments"])
    except Exception as error:  # noqa: BLE001 - whatever it is, the model may have another idea
        result = {"error": str(error)}
    return {"role": "tool", "id": call["id"], "result": result}


@durable_execution(name="agent")
async def handler(event: dict[str, Any], context: AsyncDurableContext) -> dict[str, Any]:
    messages: list[Message] = [{"role": "user", "text": event["question"]}]
    for turn in range(TURNS_MAX):
        said = await context.step(ask_model(event["model"], messages), name=f"turn-{turn}", config=OVERLOADED)
        if "text" in said:
            return {"answer": said["text"], "turns": turn + 1}
        messages.append({"role": "model", **said})
        calls = [context.run_in_child_context(partial(use_tool, call=call), call["name"]) for call in said["tools"]]
        messages.extend(await context.gather(*calls))
    return {"answer": None, "turns": TURNS_MAX}
