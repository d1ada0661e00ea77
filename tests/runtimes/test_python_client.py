"""Our client for Python beside AWS Lambda's own: the same functions, the same answers."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.model.function import FunctionVersion
from support.functions import PYTHON, Managed, managed

APP = """
import collections, datetime, decimal, json, logging, os, sys
log = logging.getLogger("my.app")
log.setLevel("INFO")

def handler(event, context):
    return globals()["do_" + event["do"]](event, context)

def do_nothing(event, context): pass
def do_decimal(event, context):
    texts = ("2.50", "1E+3", "123456789012345678901234567890.123", "NaN", "-Infinity")
    return [decimal.Decimal(text) for text in texts]
def do_named(event, context):
    Point = collections.namedtuple("Point", "x y")
    return [Point(1, Point(2, 3)), {"deep": (Point(4, [5]),)}]
def do_inner(event, context): return {"b": b"ab\\xc3\\xa9", b"k": 1, 5: collections.OrderedDict(a=1)}
def do_keys(event, context): return {(1, 2): 3}
def do_generator(event, context): return {"g": (n for n in range(3))}
def do_unicode(event, context): return "é…😀"
def do_nan(event, context): return float("nan")
def do_set(event, context): return {1, 2}
def do_date(event, context): return datetime.datetime.now()
def do_bytes(event, context): return b"raw bytes"
def do_tuple(event, context): return (1, {"a": None, 5: True})
def do_large(event, context): return "x" * 3_000_000
def do_size(event, context): return len(event["text"])
def do_raise(event, context): raise ValueError("bad\\nnews é")
def do_chain(event, context):
    try:
        1 / 0
    except ZeroDivisionError as error:
        raise KeyError("outer") from error
def do_exit(event, context): sys.exit(3)
def do_module(event, context): return [__name__, sys.path[0] == os.environ["LAMBDA_TASK_ROOT"], __file__ is not None]
def do_text(event, context):
    log.info("hello %s", "you")
    log.debug("not this")
    logging.getLogger().warning("two\\nlines")
    print("printed")
    print("to stderr", file=sys.stderr)
def do_context(event, context):
    client = context.client_context
    return {
        "names": [name for name in EXPECTED if not hasattr(context, name)],
        "function": [context.function_name, context.function_version, context.memory_limit_in_mb],
        "log": [context.log_group_name, context.log_stream_name.rpartition("]")[0].endswith("[$LATEST")],
        "ids": [context.aws_request_id, context.invoked_function_arn, context.tenant_id],
        "left": 0 < context.get_remaining_time_in_millis() <= 20_000,
        "identity": [context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id],
        "client": client and [client.custom, client.env, client.client.app_title, client.client.installation_id],
        "trace": os.environ.get("_X_AMZN_TRACE_ID"),
        "shown": repr(context).startswith("LambdaContext([aws_request_id=" + context.aws_request_id + ",log_group"),
    }
EXPECTED = [
    "aws_request_id", "log_group_name", "log_stream_name", "function_name", "memory_limit_in_mb", "function_version",
    "invoked_function_arn", "client_context", "identity", "tenant_id", "get_remaining_time_in_millis", "log",
]
"""
FILES = {
    "app.py": APP,
    "pkg/mod.py": "def handler(event, context): return 'in a folder'",
    "syntax.py": "def handler(event, context):\n    return (\n",
    "missing.py": "import nothing_of_this_name",
    "boom.py": "raise KeyError('at import')",
    "leaving.py": "import sys; sys.exit(7)",
    "shadow.py": "import event, logs, packages\ndef handler(e, c): return 'found'",
    "bootstrap": f"#!/bin/sh\nexec {sys.executable} -m awslambdaric $_HANDLER\n",
}
OURS, THEIRS = PYTHON, "provided.al2023"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    with managed(tmp_path_factory.mktemp("clients")) as made:
        yield made


def put(pool: Managed, runtime: str, handler: str = "app.handler", **more: Any) -> FunctionVersion:
    name = f"{runtime}-{handler}-{more.get('log_format', '')}".translate(str.maketrans("./", "__"))
    return pool.put(name, FILES, runtime=runtime, handler=handler, executable=("bootstrap",), **more)


def answer(pool: Managed, runtime: str, what: str, **more: Any) -> tuple[str | None, str]:
    outcome = pool.invoke(put(pool, runtime), json.dumps({"do": what}).encode(), request_id="r-1", **more)
    return outcome.function_error, outcome.body.decode()


@pytest.mark.parametrize(
    "what",
    [
        *("nothing", "decimal", "named", "inner", "unicode", "nan", "bytes", "tuple", "large", "module"),
        *("set", "date", "generator", "raise", "chain", "exit"),
    ],
)
def test_what_a_handler_does_has_the_same_answer(what: str, pool: Managed) -> None:
    ours, theirs = answer(pool, OURS, what), answer(pool, THEIRS, what)
    assert ours == theirs
    assert ours[0] == ("Unhandled" if what in ("set", "date", "generator", "raise", "chain", "exit") else None)


def test_a_key_that_json_can_not_hold_is_an_error(pool: Managed) -> None:
    ours, theirs = (json.loads(answer(pool, runtime, "keys")[1]) for runtime in (OURS, THEIRS))
    assert ours == theirs


def test_a_large_event_arrives_whole(pool: Managed) -> None:
    payload = json.dumps({"do": "size", "text": "x" * 5_000_000}).encode()
    assert pool.invoke(put(pool, OURS), payload).body == b"5000000"


@pytest.mark.parametrize("given", [{}, {"client": True}])
def test_the_context_is_the_same(given: dict[str, bool], pool: Managed) -> None:
    more: dict[str, Any] = {"trace": "Root=1-5759e988-bd862e3fe1be46a994272793"} if given else {}
    if given:
        context = {"custom": {"a": 1}, "env": {"e": 2}, "client": {"app_title": "shop", "installation_id": "i"}}
        more["client_context"] = json.dumps(context)
        more["cognito_identity"] = json.dumps({"cognitoIdentityId": "me", "cognitoIdentityPoolId": "us"})
        more["tenant_id"] = "blue"
    ours, theirs = (json.loads(answer(pool, runtime, "context", **more)[1]) for runtime in (OURS, THEIRS))
    assert ours["names"] == []
    for name in ("function", "log", "ids"):
        ours[name] = [str(one).replace(PYTHON.replace(".", "_"), "") for one in ours[name]]
        theirs[name] = [str(one).replace("provided_al2023", "") for one in theirs[name]]
    assert ours == theirs


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        ("pkg/mod.handler", None),
        ("pkg.mod.handler", None),
        ("nodot", "Runtime.MalformedHandlerName"),
        ("app.nothing", "Runtime.HandlerNotFound"),
        ("syntax.handler", "Runtime.UserCodeSyntaxError"),
        ("missing.handler", "Runtime.ImportModuleError"),
        ("pkg/nothing.handler", "Runtime.ImportModuleError"),
        ("sys.exit", "Runtime.BuiltInModuleConflict"),
        ("boom.handler", "KeyError"),
        ("leaving.handler", "Runtime.ExitError"),
    ],
)
def test_a_handler_is_found_or_is_missed_in_the_same_way(handler: str, kind: str | None, pool: Managed) -> None:
    ours, theirs = (pool.invoke(put(pool, runtime, handler), request_id="r-1") for runtime in (OURS, THEIRS))
    if kind is None:
        assert ours.body == theirs.body == b'"in a folder"'
        return
    mine, other = json.loads(ours.body), json.loads(theirs.body)
    assert mine["errorType"] == other["errorType"] == kind
    assert mine["errorMessage"] == other["errorMessage"]


def test_the_modules_beside_the_client_are_not_the_functions(pool: Managed) -> None:
    error = json.loads(pool.invoke(put(pool, OURS, "shadow.handler")).body)
    assert error["errorMessage"] == "Unable to import module 'shadow': No module named 'event'"


def test_the_log_as_text_is_the_same(pool: Managed) -> None:
    logs = []
    for runtime in (OURS, THEIRS):
        request = f"text-{runtime}"
        version = put(pool, runtime)
        pool.invoke(version, b'{"do":"text"}', request_id=request)
        lines = pool.lines(version.function, request_id=request)[1:-2]
        logs.append([part.replace(request, "R") for line in lines for part in line.split("\n")])
        logs[-1] = ["\t".join(p for at, p in enumerate(line.split("\t")) if at != 1) for line in logs[-1]]
    assert logs[0] == logs[1]
    assert logs[0] == ["[INFO]\tR\thello you", "[WARNING]\tR\ttwo", "lines", "printed", "to stderr"]


def test_the_log_as_json_is_the_same(pool: Managed) -> None:
    logs = []
    for runtime in (OURS, THEIRS):
        request = f"json-{runtime}"
        version = put(pool, runtime, log_format="JSON", more={"LoggingConfig": {"ApplicationLogLevel": "INFO"}})
        pool.invoke(version, b'{"do":"text"}', request_id=request)
        pool.invoke(version, b'{"do":"raise"}', request_id=request)
        records = []
        for line in pool.lines(version.function, request_id=request):
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if "type" not in record:
                records.append(
                    {name: value for name, value in record.items() if name not in ("timestamp", "stackTrace")}
                )
                assert records[-1].pop("requestId") == request
        logs.append(records)
    assert logs[0] == logs[1]
    assert logs[0][0] == {"level": "INFO", "message": "hello you", "logger": "my.app"}
    assert logs[0][-1] == {"level": "ERROR", "errorType": "ValueError", "errorMessage": "bad\nnews é"}


def test_an_event_that_is_no_json_is_an_error_of_its_own(pool: Managed) -> None:
    ours, theirs = (json.loads(pool.invoke(put(pool, runtime), b"{bad").body) for runtime in (OURS, THEIRS))
    assert ours["errorType"] == theirs["errorType"] == "Runtime.UnmarshalError"
    assert ours["errorMessage"][:60] == theirs["errorMessage"][:60]


def test_a_text_may_be_printed_that_is_no_unicode(pool: Managed) -> None:
    app = "import sys\ndef handler(e, c):\n    print('\\udcff')\n    sys.stdout.close()\n    return 1"
    version = pool.put("odd", {"app.py": app})
    assert pool.invoke(version).body == b"1"
    assert "\\udcff" in pool.lines("odd")


def test_the_client_runs_on_python_3_9() -> None:
    """By its syntax: no other Python has to be on the machine."""
    import ast

    import perdure.runtimes

    source = (Path(perdure.runtimes.__file__).parent / "python_client.py").read_text()
    tree = ast.parse(source, feature_version=(3, 9))
    imported = {
        name.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in node.names
    }
    assert not [name for name in imported if name and name.startswith("perdure")]
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Match)]
