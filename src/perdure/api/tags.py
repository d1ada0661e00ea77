"""Tags of functions.

Source: Lambda API 2017-03-31.
"""

from typing import Final

from msgspec.structs import replace

from perdure.api.backing import Backing
from perdure.api.naming import unqualified
from perdure.api.request import Handler, Request
from perdure.model.error import InvalidParameterValue
from perdure.model.function import Function
from perdure.wire.table import Json

TAGS_MAX: Final = 50
_RESERVED: Final = "aws:"


def tag(backing: Backing, request: Request) -> Json:
    given = request.parameters
    check_tags(given["Tags"])

    def change(function: Function) -> Function:
        tags = {**function.tags, **given["Tags"]}
        check_tags(tags)
        return replace(function, tags=tags)

    backing.registry.update_function(_tagged(backing, given), change)
    return {}


def untag(backing: Backing, request: Request) -> Json:
    given = request.parameters
    keys = frozenset(given["TagKeys"])
    backing.registry.update_function(
        _tagged(backing, given),
        lambda function: replace(
            function, tags={key: value for key, value in function.tags.items() if key not in keys}
        ),
    )
    return {}


def list_tags(backing: Backing, request: Request) -> Json:
    return {"Tags": backing.registry.function(_tagged(backing, request.parameters)).tags}


def check_tags(tags: dict[str, str]) -> None:
    """InvalidParameterValue if a function can't have these tags."""
    if len(tags) > TAGS_MAX:
        raise InvalidParameterValue(f"a function can have at most {TAGS_MAX} tags, not {len(tags)}")
    if reserved := sorted(key for key in tags if key.lower().startswith(_RESERVED)):
        raise InvalidParameterValue(f"the tag {reserved[0]!r:.130} begins with {_RESERVED!r}, which is reserved")


def _tagged(backing: Backing, given: Json) -> str:
    """The function of an ARN: nothing else can have tags here."""
    arn: str = given["Resource"]
    if ":lambda:" not in arn or ":function:" not in arn:
        raise InvalidParameterValue(f"only functions have tags here, and {arn:.200} is none")
    return unqualified(backing, given, "Resource")


OPERATIONS: Final[dict[str, Handler]] = {"ListTags": list_tags, "TagResource": tag, "UntagResource": untag}
