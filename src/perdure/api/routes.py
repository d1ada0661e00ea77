"""From a method and a raw path to an operation and the values in its path.

Paths are taken apart before they are decoded: an ARN arrives as one percent-encoded segment, with its slashes escaped.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Generic, TypeVar
from urllib.parse import unquote

T = TypeVar("T")

EXECUTION_ARN_SEGMENTS = 4
"""`arn:…:function:f:1/durable-execution/name/id` of a client that does not escape slashes."""


@lru_cache(maxsize=8192)
def _decoded(part: str) -> str:
    """A segment without its escapes. An ARN comes again and again, and decoding one takes 15 µs."""
    return unquote(part, errors="strict")


class Found(Generic[T]):
    """What a path leads to, with the decoded values in it."""

    __slots__ = ("path", "to")

    def __init__(self, to: T, path: Mapping[str, str]) -> None:
        self.to = to
        self.path = path


class Routes(Generic[T]):
    """A tree of path segments; `{Name}` takes any one segment."""

    def __init__(self) -> None:
        self._root: dict[str, Any] = {}

    def add(self, method: str, path: str, to: T) -> None:
        node = self._root
        for part in path.strip("/").split("/"):
            node = node.setdefault("{}" if part.startswith("{") else part, {})
        names = [part[1:-1] for part in path.strip("/").split("/") if part.startswith("{")]
        node.setdefault("", {})[method] = (to, names)

    def find(self, method: str, raw_path: str) -> Found[T] | str | None:
        """What this leads to; the methods that the path knows if this is none of them; None if the path leads nowhere.

        An empty segment matches nothing.
        """
        parts = raw_path.strip("/").split("/")
        if len(parts) > 3 and parts[1] == "durable-executions" and parts[3] == "durable-execution":
            arn = parts[2 : 2 + EXECUTION_ARN_SEGMENTS]
            parts = [*parts[:2], "/".join(arn), *parts[2 + EXECUTION_ARN_SEGMENTS :]]
        values: list[str] = []
        node = self._root
        for part in parts:
            inner = node.get(part) if part else None
            if inner is None:
                inner = node.get("{}") if part else None
                if inner is None:
                    return None
                values.append(_decoded(part))
            node = inner
        leaf = node.get("")
        if leaf is None:
            return None
        found = leaf.get(method)
        if found is None:
            return ", ".join(sorted(leaf))
        to, names = found
        return Found(to, dict(zip(names, values, strict=True)))
