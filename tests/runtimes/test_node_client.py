"""Our client for Node.js: modules of both kinds, handlers of all kinds, and what goes wrong."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from perdure.model.function import FunctionVersion
from support.functions import Managed, managed

FILES = {
    "app.mjs": """
import { setTimeout as sleep } from 'node:timers/promises';
export const echo = async (event) => ({ event, pid: process.pid });
export const fail = async () => { throw new TypeError('bad news'); };
export const throws = () => { throw new RangeError('at once'); };
export const reject = async () => Promise.reject('a text');
export const nothing = async () => undefined;
export const slow = async () => { await sleep(600000); };
export const exit = async () => process.exit(5);
export const circle = async () => { const a = {}; a.a = a; return a; };
export const never = () => new Promise(() => {});
export const loose = async () => { Promise.reject(new Error('loose')); await sleep(600000); };
export const later = async () => { setTimeout(() => { throw new Error('later'); }, 1); await sleep(600000); };
export const large = async (event) => 'x'.repeat(event);
export const talk = async (event, context) => {
  console.log('hello %s', 'you', { a: 1 });
  console.warn('two\\nlines');
  console.error(new Error('shown'));
  console.debug('quiet');
  process.stdout.write('raw\\n');
};
export const context = async (event, context) => ({
  names: [context.functionName, context.functionVersion, context.memoryLimitInMB, context.logGroupName],
  ids: [context.awsRequestId, context.invokedFunctionArn, context.tenantId],
  left: context.getRemainingTimeInMillis() > 0 && context.getRemainingTimeInMillis() <= 20000,
  client: context.clientContext, identity: context.identity, trace: process.env._X_AMZN_TRACE_ID,
});
export const nested = { deep: { handler: async () => 'deep' } };
export const notAFunction = 5;
""",
    "common.js": """
exports.callback = (event, context, callback) => setTimeout(() => callback(null, { got: event }), 5);
exports.error = (event, context, callback) => callback(new Error('by callback'));
exports.text = (event, context, callback) => callback('only a text');
exports.waits = (event, context, callback) => { setTimeout(() => console.log('done'), 30); callback(null, 'waited'); };
exports.hurries = (event, context, callback) => {
  context.callbackWaitsForEmptyEventLoop = false;
  setTimeout(() => {}, 600000);
  callback(null, 'hurried');
};
exports.sync = () => 'ignored';
exports.done = (event, context) => context.done(null, 'done');
exports.succeed = (event, context) => context.succeed('succeeded');
exports.fail = (event, context) => context.fail(new Error('failed'));
""",
    "lib/inner.cjs": "exports.handler = async () => 'inner ' + require('./other.js').name;",
    "lib/other.js": "exports.name = 'other';",
    "syntax.js": "exports.handler = async () => {",
    "missing.mjs": "import 'nothing-of-this-name';",
    "boom.js": "throw new Error('at import');",
    "top.mjs": "const value = await Promise.resolve(7);\nexport const handler = async () => value;",
    "module/package.json": '{"type": "module"}',
    "module/index.js": "export const handler = async () => import.meta.url.startsWith('file:');",
}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    with managed(tmp_path_factory.mktemp("node")) as made:
        yield made


def put(pool: Managed, handler: str, **more: Any) -> FunctionVersion:
    name = handler.translate(str.maketrans("./", "__")) + more.get("log_format", "")
    return pool.put(name, FILES, runtime="nodejs20.x", handler=handler, **more)


def result(pool: Managed, handler: str, payload: bytes = b"{}", **more: Any) -> Any:
    outcome = pool.invoke(put(pool, handler), payload, **more)
    assert outcome.function_error is None, outcome.body
    return json.loads(outcome.body)


def failure(pool: Managed, handler: str, payload: bytes = b"{}", **more: Any) -> dict[str, Any]:
    outcome = pool.invoke(put(pool, handler, **more), payload, request_id="r-1")
    assert outcome.function_error == "Unhandled"
    return dict(json.loads(outcome.body))


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        ("app.nothing", None),
        ("app.never", None),
        ("app.nested.deep.handler", "deep"),
        ("common.callback", {"got": {}}),
        ("common.waits", "waited"),
        ("common.hurries", "hurried"),
        ("common.sync", None),
        ("common.done", "done"),
        ("common.succeed", "succeeded"),
        ("lib/inner.handler", "inner other"),
        ("module/index.handler", True),
        ("top.handler", 7),
    ],
)
def test_handlers_of_all_kinds_answer(handler: str, expected: Any, pool: Managed) -> None:
    assert result(pool, handler) == expected


def test_a_process_is_used_again(pool: Managed) -> None:
    first, second = result(pool, "app.echo", b"1"), result(pool, "app.echo", b'{"a":[2]}')
    assert (first["event"], second["event"]) == (1, {"a": [2]})
    assert first["pid"] == second["pid"]


def test_a_callback_waits_for_what_else_goes_on(pool: Managed) -> None:
    result(pool, "common.waits", request_id="waiting")
    lines = pool.lines("common_waits", request_id="waiting")
    assert lines[1].endswith("\tINFO\tdone")


@pytest.mark.parametrize(
    ("handler", "kind", "message"),
    [
        ("app.fail", "TypeError", "bad news"),
        ("app.throws", "RangeError", "at once"),
        ("app.reject", "string", "a text"),
        ("common.error", "Error", "by callback"),
        ("common.text", "string", "only a text"),
        ("common.fail", "Error", "failed"),
        ("app.circle", "Runtime.MarshalError", "Unable to stringify response body"),
        ("app.loose", "Runtime.UnhandledPromiseRejection", "Error: loose"),
        ("app.later", "Error", "later"),
        ("app.exit", "Runtime.ExitError", "RequestId: r-1 Error: Runtime exited with error: exit status 5"),
        ("app.missing", "Runtime.HandlerNotFound", "app.missing is undefined or not exported"),
        ("app.notAFunction", "Runtime.HandlerNotFound", "app.notAFunction is not a function"),
        ("nodot", "Runtime.MalformedHandlerName", "Bad handler 'nodot': it must be 'file.function'"),
        ("syntax.handler", "Runtime.UserCodeSyntaxError", "SyntaxError: Unexpected end of input"),
        ("boom.handler", "Error", "at import"),
    ],
)
def test_what_goes_wrong_is_told(handler: str, kind: str, message: str, pool: Managed) -> None:
    error = failure(pool, handler)
    assert (error["errorType"], error["errorMessage"]) == (kind, message)


def test_an_error_has_its_trace(pool: Managed) -> None:
    trace = failure(pool, "app.fail")["trace"]
    assert trace[0] == "TypeError: bad news"
    assert "app.mjs:4:" in trace[1]


@pytest.mark.parametrize("handler", ["missing.handler", "nowhere.handler"])
def test_a_module_that_is_not_there_is_named(handler: str, pool: Managed) -> None:
    error = failure(pool, handler)
    assert error["errorType"] == "Runtime.ImportModuleError"
    assert "nothing-of-this-name" in error["errorMessage"] or "nowhere" in error["errorMessage"]


def test_a_time_out_kills_it(pool: Managed) -> None:
    assert failure(pool, "app.slow", timeout_s=1)["errorType"] == "Sandbox.Timedout"


def test_large_answers_arrive_whole(pool: Managed) -> None:
    assert len(result(pool, "app.large", b"6000000")) == 6_000_000
    assert failure(pool, "app.large", b"7000000")["errorType"] == "Function.ResponseSizeTooLarge"


def test_the_context_has_what_lambda_promises(pool: Managed) -> None:
    found = result(
        pool,
        "app.context",
        request_id="r-1",
        client_context='{"custom":{"a":1}}',
        cognito_identity='{"cognitoIdentityId":"me"}',
        tenant_id="blue",
        trace="Root=1",
    )
    assert found == {
        "names": ["app_context", "$LATEST", "1024", "/aws/lambda/app_context"],
        "ids": ["r-1", "arn:aws:lambda:us-east-1:000000000000:function:app_context:$LATEST", "blue"],
        "left": True,
        "client": {"custom": {"a": 1}},
        "identity": {"cognitoIdentityId": "me"},
        "trace": "Root=1",
    }


def test_the_console_writes_as_on_lambda(pool: Managed) -> None:
    result(pool, "app.talk", request_id="r-1")
    records = [one for one in pool.logs.read("app_talk", request_id="r-1") if not one.is_platform]
    shown = ["\t".join(one.text.split("\t")[1:]) or one.text for one in records]
    assert shown[0] == "r-1\tINFO\thello you { a: 1 }"
    assert shown[1] == "r-1\tWARN\ttwo\nlines"
    assert shown[2].startswith("r-1\tERROR\tError: shown\n    at ")
    assert shown[3:] == ["r-1\tDEBUG\tquiet", "raw"]
    assert [one.level for one in records] == ["INFO", "WARN", "ERROR", "DEBUG", None]


def test_the_console_writes_json_where_the_function_logs_so(pool: Managed) -> None:
    version = put(pool, "app.talk", log_format="JSON", more={"LoggingConfig": {"ApplicationLogLevel": "INFO"}})
    pool.invoke(version, request_id="r-1")
    records = [one for one in pool.logs.read(version.function, request_id="r-1") if not one.is_platform]
    first, second, third = (json.loads(one.text) for one in records[:3])
    assert (first["level"], first["message"], first["requestId"]) == ("INFO", "hello you { a: 1 }", "r-1")
    assert (second["level"], second["message"]) == ("WARN", "two\nlines")
    assert (third["level"], third["errorType"], third["errorMessage"]) == ("ERROR", "Error", "shown")
    assert [one.text for one in records[3:]] == ["raw"]
