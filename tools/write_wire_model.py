"""Write the table of the Lambda API that the server and the clients go by: src/perdure/wire/lambda-api.json.

python tools/write_wire_model.py           say whether it is current
python tools/write_wire_model.py --write   write it

The facts (paths, members, types, bounds, patterns, errors) are those of the service model that botocore carries. Its
prose is left out.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
FILE: Final = ROOT / "src" / "perdure" / "wire" / "lambda-api.json"

OPERATIONS: Final = (
    "CheckpointDurableExecution",
    "GetDurableExecution",
    "GetDurableExecutionHistory",
    "GetDurableExecutionState",
    "ListDurableExecutionsByFunction",
    "StopDurableExecution",
    "PauseDurableExecution",
    "ResumeDurableExecution",
    "DeleteDurableExecution",
    "SendDurableExecutionCallbackSuccess",
    "SendDurableExecutionCallbackFailure",
    "SendDurableExecutionCallbackHeartbeat",
    "Invoke",
    "InvokeAsync",
    "InvokeWithResponseStream",
    "CreateFunction",
    "GetFunction",
    "GetFunctionConfiguration",
    "UpdateFunctionConfiguration",
    "UpdateFunctionCode",
    "DeleteFunction",
    "ListFunctions",
    "PublishVersion",
    "ListVersionsByFunction",
    "CreateAlias",
    "GetAlias",
    "UpdateAlias",
    "DeleteAlias",
    "ListAliases",
    "AddPermission",
    "GetPolicy",
    "RemovePermission",
    "PutFunctionConcurrency",
    "GetFunctionConcurrency",
    "DeleteFunctionConcurrency",
    "PutFunctionEventInvokeConfig",
    "UpdateFunctionEventInvokeConfig",
    "GetFunctionEventInvokeConfig",
    "DeleteFunctionEventInvokeConfig",
    "ListFunctionEventInvokeConfigs",
    "TagResource",
    "UntagResource",
    "ListTags",
    "GetAccountSettings",
    "CreateEventSourceMapping",
    "GetEventSourceMapping",
    "ListEventSourceMappings",
    "UpdateEventSourceMapping",
    "DeleteEventSourceMapping",
)
_OF_SHAPES: Final = ("type", "required", "enum", "min", "max", "pattern", "payload", "sensitive", "streaming")
_OF_MEMBERS: Final = ("shape", "location", "locationName", "idempotencyToken")

Json = dict[str, Any]


def table() -> Json:
    """The table as botocore's model has it now."""
    import botocore.session

    model = botocore.session.get_session().get_component("data_loader").load_service_model("lambda", "service-2")
    operations = {name: _operation(model["operations"][name]) for name in OPERATIONS}
    names: set[str] = set()
    for operation in operations.values():
        for shape in (operation.get("input"), operation.get("output")):
            if shape is not None:
                _reach(model["shapes"], shape, names)
    errors = {name: _error(shape) for name, shape in model["shapes"].items() if shape.get("exception")}
    shapes = {name: _shape(model["shapes"][name]) for name in sorted(names)}
    return {"operations": operations, "shapes": shapes, "errors": dict(sorted(errors.items()))}


def _operation(given: Json) -> Json:
    http = given["http"]
    written = {"method": http["method"], "path": http["requestUri"].rstrip("/"), "status": http["responseCode"]}
    for side in ("input", "output"):
        if side in given:
            written[side] = given[side]["shape"]
    written["errors"] = sorted(error["shape"] for error in given.get("errors", ()))
    return written


def _shape(given: Json) -> Json:
    written = {key: given[key] for key in _OF_SHAPES if key in given}
    for key in ("member", "key", "value"):
        if key in given:
            written[key] = given[key]["shape"]
    if "members" in given:
        written["members"] = {
            name: {key: member[key] for key in _OF_MEMBERS if key in member}
            for name, member in given["members"].items()
        }
    return written


def _error(given: Json) -> Json:
    key = next((name for name in given["members"] if name.lower() == "message"), "message")
    return {"status": given["error"]["httpStatusCode"], "message": key}


def _reach(shapes: Json, name: str, names: set[str]) -> None:
    if name in names:
        return
    names.add(name)
    given = shapes[name]
    inner = [member["shape"] for member in given.get("members", {}).values()]
    inner += [given[key]["shape"] for key in ("member", "key", "value") if key in given]
    for one in inner:
        _reach(shapes, one, names)


def text() -> str:
    return json.dumps(table(), indent=1, sort_keys=True, ensure_ascii=True) + "\n"


def main() -> int:
    if "--write" in sys.argv[1:]:
        FILE.write_text(text(), "utf-8")
        return 0
    if not FILE.exists() or FILE.read_text("utf-8") != text():
        print(f"{FILE.relative_to(ROOT)} is not current: python tools/write_wire_model.py --write")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
