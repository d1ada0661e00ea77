"""Run the Python function of a package: ask the Runtime API for events, call the handler, give its answers.

It is run as a script, by any Python from 3.9 on, with nothing but the standard library; it must not import Perdure. To
the function it looks as AWS Lambda's own client does (awslambdaric 4.2): the context, the errors, the forms of the log.

The answer and the request for the next event go out in one piece; Perdure's Runtime API takes them so.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    del sys.path[0]  # the folder of this file, whose modules are not the function's

import importlib
import json
import logging
import os
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` takes its time to load
    from collections.abc import Callable, Iterable
    from typing import Any

ROOT = "/2018-06-01/runtime/"
LEVELS = {"TRACE": "DEBUG", "WARN": "WARNING", "FATAL": "CRITICAL"}
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""What every log record has; other attributes are the author's `extra`."""


class Failure(Exception):
    """An error with a type of its own in the Runtime API: `Runtime.ImportModuleError` and the like."""

    def __init__(self, kind: str, message: str, stack: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.kind = kind
        self.stack = list(stack)


# --- what the handler is given -----------------------------------------------------------------------------------


class CognitoIdentity:
    """Who invoked the function, if a mobile client did."""

    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    def __init__(self, given: dict[str, Any]) -> None:
        self.cognito_identity_id = given.get("cognitoIdentityId")
        self.cognito_identity_pool_id = given.get("cognitoIdentityPoolId")

    def __repr__(self) -> str:
        return _shown(self)


class Client:
    """The application that invoked the function, as it says of itself."""

    __slots__ = ("app_package_name", "app_title", "app_version_code", "app_version_name", "installation_id")

    def __init__(self, given: dict[str, Any]) -> None:
        for name in self.__slots__:
            setattr(self, name, given.get(name))

    def __repr__(self) -> str:
        return _shown(self)


class ClientContext:
    """What the caller sent as its client context."""

    __slots__ = ("client", "custom", "env")

    def __init__(self, given: dict[str, Any]) -> None:
        self.custom = given.get("custom")
        self.env = given.get("env")
        self.client = Client(given["client"]) if given.get("client") else None

    def __repr__(self) -> str:
        return _shown(self)


class LambdaContext:
    """The second argument of a handler."""

    def __init__(self, request_id: str, deadline_ms: int, headers: dict[bytes, bytes]) -> None:
        self.aws_request_id = request_id
        self.log_group_name = os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME")
        self.function_name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
        self.memory_limit_in_mb = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.function_version = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.invoked_function_arn = headers.get(b"lambda-runtime-invoked-function-arn", b"").decode() or None
        self.tenant_id = headers.get(b"lambda-runtime-aws-tenant-id", b"").decode() or None
        client_context = _object(headers.get(b"lambda-runtime-client-context"))
        self.client_context = ClientContext(client_context) if client_context is not None else None
        self.identity = CognitoIdentity(_object(headers.get(b"lambda-runtime-cognito-identity")) or {})
        self._deadline_ms = deadline_ms

    def get_remaining_time_in_millis(self) -> int:
        """How long the invocation may still take."""
        return max(0, self._deadline_ms - int(time.time() * 1000))

    def log(self, message: object) -> None:
        """Write a text to the function's log."""
        sys.stdout.write(str(message))

    def __repr__(self) -> str:
        return _shown(self)


def _shown(thing: object) -> str:
    names = [name for name in getattr(thing, "__slots__", None) or vars(thing) if not name.startswith("_")]
    return "{}([{}])".format(type(thing).__name__, ",".join(f"{n}={getattr(thing, n)}" for n in names))


def _object(text: bytes | None) -> dict[str, Any] | None:
    try:
        given = json.loads(text) if text else None
    except ValueError:
        return None
    return given if isinstance(given, dict) else None


# --- the log -----------------------------------------------------------------------------------------------------


class Now:
    """The invocation under way, for the records of the log."""

    request_id = ""
    tenant_id: str | None = None


class Handler(logging.Handler):
    """Writes records to stdout, one line each; the lines of a text are parted by carriage returns."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            write_line(self.format(record))
        except Exception:  # noqa: BLE001 - as all handlers of `logging` do
            self.handleError(record)


class TextFormatter(logging.Formatter):
    """`[INFO]`, the time, the request id and the message, parted by tabs."""

    converter = time.gmtime  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__(
            "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s", "%Y-%m-%dT%H:%M:%S"
        )

    def format(self, record: logging.LogRecord) -> str:
        record.aws_request_id = Now.request_id
        return super().format(record)


class JsonFormatter(logging.Formatter):
    """One JSON object a record, with what the author gave as `extra`."""

    converter = time.gmtime  # type: ignore[assignment]
    default_time_format = "%Y-%m-%dT%H:%M:%SZ"
    default_msec_format = None

    def format(self, record: logging.LogRecord) -> str:
        shown: dict[str, Any] = {
            "timestamp": self.formatTime(record),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            shown["stackTrace"] = stack_of(error)
            shown["errorType"] = type(error).__name__
            shown["errorMessage"] = str(error)
            shown["location"] = f"{record.pathname}:{record.funcName}:{record.lineno}"
        shown["requestId"] = Now.request_id
        if Now.tenant_id:
            shown["tenantId"] = Now.tenant_id
        for name, value in vars(record).items():
            if name not in STANDARD and name not in shown:
                shown[name] = value
        return json.dumps(shown, default=str)


def set_up_logging() -> bool:
    """The root logger writes as AWS Lambda's does; the level of the function's configuration holds for JSON."""
    is_json = os.environ.get("AWS_LAMBDA_LOG_FORMAT") == "JSON"
    handler = Handler()
    handler.setFormatter(JsonFormatter() if is_json else TextFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
    if is_json and level:
        level = LEVELS.get(level, level)
        root.setLevel(level if level in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL") else "INFO")
    return is_json


def write_line(text: str) -> None:
    sys.stdout.write(text.replace("\n", "\r") + "\n")


def flush() -> None:
    """Have what the function has printed go out before its answer does."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # the function has closed or replaced it
            pass


# --- errors ------------------------------------------------------------------------------------------------------


def stack_of(error: BaseException) -> list[str]:
    """The frames of an error, without those of this file, in the form of all versions of Python."""
    import traceback

    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    return [
        f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}\n'
        + (f"    {frame.line}\n" if frame.line else "")
        for frame in frames
    ]


def described(error: Exception, request_id: str = "") -> dict[str, Any]:
    """An error as the Runtime API takes it."""
    if isinstance(error, Failure):
        kind, stack = error.kind, error.stack
    else:
        kind, stack = type(error).__name__, stack_of(error)
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - an error that can't say what it is must not hide that it happened
        message = "(the error's own text could not be made)"
    return {"errorMessage": message, "errorType": kind, "requestId": request_id, "stackTrace": stack}


def log_error(body: dict[str, Any], is_json: bool) -> None:
    if is_json:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        write_line(json.dumps({"timestamp": at, "level": "ERROR", **body}))
        return
    text = "[ERROR] {errorType}: {errorMessage}\nTraceback (most recent call last):\n".format(**body)
    write_line(text + "".join(body["stackTrace"]).rstrip("\n"))


# --- the handler -------------------------------------------------------------------------------------------------


def load(name: str) -> Callable[[Any, LambdaContext], Any]:
    """The function that a handler's name points at: `module.function`, or `folder/module.function`."""
    module_name, dot, function_name = name.rpartition(".")
    if not dot:
        raise Failure(
            "Runtime.MalformedHandlerName",
            f"Bad handler '{name}': not enough values to unpack (expected 2, got 1)",
        )
    dotted = module_name.replace("/", ".")
    if dotted.partition(".")[0] in sys.builtin_module_names:
        text = f"Cannot use built-in module {module_name} as a handler module"
        raise Failure("Runtime.BuiltInModuleConflict", text)
    try:
        module = importlib.import_module(dotted)
    except ImportError as error:
        text = f"Unable to import module '{module_name}': {error}"
        raise Failure("Runtime.ImportModuleError", text) from error
    except SyntaxError as error:
        text = f"Syntax error in module '{module_name}': {error}"
        where = '  File "{}" Line {}\n    {}\n'.format(error.filename, error.lineno, (error.text or "").rstrip("\n"))
        raise Failure("Runtime.UserCodeSyntaxError", text, [where]) from error
    try:
        handler: Callable[[Any, LambdaContext], Any] = getattr(module, function_name)
    except AttributeError:
        text = f"Handler '{function_name}' missing on module '{module_name}'"
        raise Failure("Runtime.HandlerNotFound", text) from None
    return handler


ATOMS = frozenset((str, int, float, bool, type(None)))
MARK = os.urandom(16).hex()
"""What stands before a decimal number until it is written: JSON texts of functions do not hold it."""


def plain(value: Any) -> Any:
    """A result as JSON can hold it. As on AWS Lambda, named tuples are objects, and bytes are UTF-8 text."""
    kind = type(value)
    if kind in ATOMS:
        return value
    if isinstance(value, dict):
        return {key.decode() if isinstance(key, bytes) else key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        named = None if kind is list or kind is tuple else getattr(value, "_asdict", None)
        return plain(named()) if named is not None else [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode()
    if kind.__name__ == "Decimal" and kind.__module__ == "decimal":
        return f"{MARK}{value}"
    return value


def encode(result: Any) -> str:
    """A result as JSON text; decimal numbers keep all their digits."""
    text = json.dumps(plain(result))
    if MARK in text:
        import re

        text = re.sub(f'"{MARK}([^"]*)"', r"\1", text)
    return text


# --- the Runtime API ---------------------------------------------------------------------------------------------


class Connection:
    """HTTP over one kept connection to the Runtime API. Its end is the end of the process: nobody is left to serve."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._next = f"GET {ROOT}invocation/next HTTP/1.1\r\nHost: {address}\r\n\r\n".encode()
        self._post = f"POST {ROOT}%s HTTP/1.1\r\nHost: {address}\r\nContent-Type: %s\r\n%sContent-Length: %d\r\n\r\n"
        self._buffer = b""
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, path: str, body: bytes, kind: str = "application/json", headers: str = "") -> int:
        """Send a body and read the answer to it."""
        self._socket.sendall((self._post % (path, kind, headers, len(body))).encode() + body)
        return self._read()[0]

    def next(self) -> tuple[dict[bytes, bytes], bytes]:
        """The headers and the body of the next event."""
        self._socket.sendall(self._next)
        return self._event()

    def post_and_next(self, path: str, body: bytes, kind: str, headers: str) -> tuple[dict[bytes, bytes], bytes]:
        """Send an answer, and ask for the next event at once."""
        self._socket.sendall((self._post % (path, kind, headers, len(body))).encode() + body + self._next)
        self._read()
        return self._event()

    def _event(self) -> tuple[dict[bytes, bytes], bytes]:
        status, headers, body = self._read()
        if status != 200:
            raise Failure("Runtime.LambdaRuntimeClientError", f"the Runtime API answered {status}: {body!r}")
        return headers, body

    def _read(self) -> tuple[int, dict[bytes, bytes], bytes]:
        end = self._buffer.find(b"\r\n\r\n")
        while end < 0:
            self._buffer += self._receive()
            end = self._buffer.find(b"\r\n\r\n")
        first, *lines = self._buffer[:end].split(b"\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        begin, length = end + 4, int(headers.get(b"content-length", 0))
        parts = [self._buffer[begin:]]
        here = len(parts[0])
        while here < length:
            parts.append(self._receive())
            here += len(parts[-1])
        rest = b"".join(parts) if len(parts) > 1 else parts[0]
        body, self._buffer = rest[:length], rest[length:]
        return int(first.split(b" ", 2)[1]), headers, body

    def _receive(self) -> bytes:
        try:
            data = self._socket.recv(262144)
        except OSError:
            data = b""
        if not data:
            flush()
            os._exit(1)
        return data


# --- one event after the other -----------------------------------------------------------------------------------


def answer(
    handler: Callable[[Any, LambdaContext], Any], headers: dict[bytes, bytes], body: bytes, is_json: bool
) -> tuple[str, bytes, str, str]:
    """Call the handler with an event; the path, the body and the type of what is to be sent."""
    request_id = headers[b"lambda-runtime-aws-request-id"].decode()
    trace = headers.get(b"lambda-runtime-trace-id")
    if trace:
        os.environ["_X_AMZN_TRACE_ID"] = trace.decode()
    else:
        os.environ.pop("_X_AMZN_TRACE_ID", None)
    context = LambdaContext(request_id, int(headers.get(b"lambda-runtime-deadline-ms", 0)), headers)
    Now.request_id, Now.tenant_id = request_id, context.tenant_id
    kind = "application/json"
    try:
        try:
            event = json.loads(body)
        except ValueError as error:
            raise Failure("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from None
        result = handler(event, context)
        if isinstance(result, bytes):
            kind, sent = "application/unknown", result
        else:
            sent = marshal(result)
        what = "response"
    except Exception as error:  # noqa: BLE001 - whatever the function raises
        described_error = described(error, request_id)
        log_error(described_error, is_json)
        what, sent = "error", json.dumps(described_error).encode()
    flush()
    invocation_id = headers.get(b"lambda-runtime-invocation-id")
    more = f"Lambda-Runtime-Invocation-Id: {invocation_id.decode()}\r\n" if invocation_id else ""
    return f"invocation/{request_id}/{what}", sent, kind, more


def marshal(result: object) -> bytes:
    try:
        return encode(result).encode()
    except Exception as error:  # noqa: BLE001 - whatever the methods of the author's own types raise
        raise Failure("Runtime.MarshalError", f"Unable to marshal response: {error}") from None


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(  # type: ignore[union-attr]
            encoding="utf-8", errors="backslashreplace", line_buffering=True
        )
    connection = Connection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    is_json = set_up_logging()
    sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
    sys.argv = [sys.argv[0], os.environ.get("_HANDLER", "")]
    try:
        handler = load(os.environ.get("_HANDLER", ""))
    except Exception as error:  # noqa: BLE001 - whatever the function raises
        body = described(error)
        log_error(body, is_json)
        flush()
        more = "Lambda-Runtime-Function-Error-Type: {}\r\n".format(body["errorType"])
        connection.post("init/error", json.dumps(body).encode(), headers=more)
        sys.exit(1)
    headers, event = connection.next()
    while True:
        headers, event = connection.post_and_next(*answer(handler, headers, event, is_json))


if __name__ == "__main__":
    main()
