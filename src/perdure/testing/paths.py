r"""How operations are named by paths: `order/charge[1]`, `orders/*[2]/**`. Pure: it knows of names and children only.

A path is a list of names with `/` between them, from the top. `[i]` takes the i-th of those that the name matches
beneath one parent, from 0, in the order of the code; `[-1]` the last. In a name `*` stands for any characters and `?`
for one; a `**` of its own stands for any number of levels, none included. A backslash makes the next character mean
itself. An operation without a name goes by its kind in parentheses: `(Step)`, `(Wait)`.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

Node = TypeVar("Node")

_SPECIAL: Final = re.compile(r"([\\/\[\]*?])")
_INDEX: Final = re.compile(r"\[(-?\d+)\]$")


class Segment(NamedTuple):
    """One level: which names it takes, and which of several; `is_deep` for `**`."""

    names: re.Pattern[str] | None
    place: int | None

    @property
    def is_deep(self) -> bool:
        return self.names is None


def escape(name: str) -> str:
    """The segment that means this name and no other."""
    return _SPECIAL.sub(r"\\\1", name)


def is_glob(path: str) -> bool:
    """Whether a path may mean several operations by its form alone."""
    return re.search(r"[*?]", re.sub(r"\\.", "", path)) is not None


@lru_cache(maxsize=256)
def parse(path: str) -> tuple[Segment, ...]:
    """The segments of a path; ValueError says what is wrong with it."""
    if not path:
        raise ValueError("a path has at least one name; '**' means every operation")
    return tuple(_segment(part, path) for part in _split(path))


def _split(path: str) -> Iterator[str]:
    part = ""
    characters = iter(path)
    for character in characters:
        if character == "\\":
            following = next(characters, None)
            if following is None:
                raise ValueError(f"the path {path!r} ends in a backslash, which has nothing to make plain; write two")
            part += character + following
        elif character == "/":
            yield part
            part = ""
        else:
            part += character
    yield part


def _segment(part: str, path: str) -> Segment:
    if part == "**":
        return Segment(None, None)
    index = None
    found = _INDEX.search(part)
    if found is not None:
        index = int(found[1])
        part = part[: found.start()]
    if not part:
        raise ValueError(f"the path {path!r} has an empty name; '*' is any one operation")
    return Segment(_pattern(part, path), index)


def _pattern(part: str, path: str) -> re.Pattern[str]:
    pattern = ""
    characters = iter(part)
    for character in characters:
        if character == "\\":
            pattern += re.escape(next(characters))
        elif character == "*":
            pattern += ".*"
        elif character == "?":
            pattern += "."
        elif character in "[]":
            raise ValueError(
                f"the path {path!r} has a {character!r} that is no index at the end of a name; write name[0], or "
                f"\\{character} if it belongs to the name"
            )
        else:
            pattern += re.escape(character)
    return re.compile(pattern, re.DOTALL)


def select(
    roots: Sequence[Node], path: str, *, name: Callable[[Node], str], children: Callable[[Node], Sequence[Node]]
) -> list[Node]:
    """The nodes that a path means, each once, in document order. ValueError if it is no path."""
    chosen: dict[int, Node] = {}
    seen: set[tuple[int, int]] = set()
    segments = parse(path)

    def look(siblings: Sequence[Node], parent: int, at: int) -> None:
        if (parent, at) in seen:
            return
        seen.add((parent, at))
        segment = segments[at]
        is_last = at == len(segments) - 1
        if segment.names is None:
            for node in siblings:
                if is_last:
                    chosen[id(node)] = node
                look(children(node), id(node), at)
            if not is_last:
                look(siblings, parent, at + 1)
            return
        matching = [node for node in siblings if segment.names.fullmatch(name(node))]
        for node in _at(matching, segment.place):
            if is_last:
                chosen[id(node)] = node
            else:
                look(children(node), id(node), at + 1)

    look(roots, 0, 0)
    return [node for node in walk(roots, children) if id(node) in chosen] if len(chosen) > 1 else list(chosen.values())


def _at(nodes: Sequence[Node], index: int | None) -> Sequence[Node]:
    if index is None:
        return nodes
    return [nodes[index]] if -len(nodes) <= index < len(nodes) else []


def walk(roots: Sequence[Node], children: Callable[[Node], Sequence[Node]]) -> Iterator[Node]:
    """Every node, a parent before its children."""
    open_ones = list(reversed(roots))
    while open_ones:
        node = open_ones.pop()
        yield node
        open_ones.extend(reversed(children(node)))


def segments_of(names: Sequence[str]) -> list[str]:
    """The segment of each of these siblings: its name, with an index where several have it."""
    totals, places, segments = Counter(names), Counter[str](), []
    for each in names:
        segments.append(f"{escape(each)}[{places[each]}]" if totals[each] > 1 else escape(each))
        places[each] += 1
    return segments
