"""Which function, version or page a request is about."""

import base64
import binascii
from collections.abc import Callable
from typing import Final, TypeVar

from perdure.api.backing import Backing
from perdure.model.error import InvalidParameterValue
from perdure.model.ids import LATEST, FunctionReference
from perdure.service.registry import agreed
from perdure.wire.table import Json

PAGE_MAX: Final = 50
"""So many functions, versions or aliases come at once, however many are asked for."""
_MARKER: Final = "after:"

T = TypeVar("T")


def qualified(backing: Backing, given: Json) -> tuple[str, str | None]:
    """The function of a request, and the qualifier in its name or beside it."""
    reference = FunctionReference.parse(given["FunctionName"])
    return backing.registry.name_of(reference), agreed(reference, given.get("Qualifier"))


def unqualified(backing: Backing, given: Json, parameter: str = "FunctionName") -> str:
    """The function of a request that is about no version; InvalidParameterValue if it names one, but for `$LATEST`."""
    reference = FunctionReference.parse(given[parameter])
    if reference.qualifier not in (None, LATEST):
        raise InvalidParameterValue(
            f"{parameter} must name a function without a version or alias, not {given[parameter]:.200}",
            hint=f"write {reference.name}",
        )
    return backing.registry.name_of(reference)


def limit_of(given: Json) -> int:
    """How many a page may have."""
    return min(given.get("MaxItems") or PAGE_MAX, PAGE_MAX)


def after_of(given: Json) -> str | None:
    """What the page before ended with; InvalidParameterValue if the marker was not given out."""
    marker = given.get("Marker")
    if not marker:
        return None
    try:
        text = base64.urlsafe_b64decode(marker).decode()
    except (binascii.Error, ValueError):
        text = ""
    if not text.startswith(_MARKER):
        raise InvalidParameterValue(f"Marker must be one that an answer gave, not {marker!r:.80}")
    return text.removeprefix(_MARKER)


def page(name: str, found: list[T], limit: int, key_of: Callable[[T], str]) -> Json:
    """The answer with the first `limit` of what was found, under `name`, and with the next marker if there are more."""
    answer: Json = {name: found[:limit]}
    if len(found) > limit:
        answer["NextMarker"] = base64.urlsafe_b64encode(f"{_MARKER}{key_of(found[limit - 1])}".encode()).decode()
    return answer
