"""What is shown of a value too large to be shown: some of its fields, some of them masked, up to a number of bytes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from perdure.config import to_word
from perdure.model.word import Word
from perdure.sdk.plain import plain

__all__ = ["FieldMatchMode", "PreviewConfig", "PreviewField", "PreviewMode", "build_preview"]


class PreviewMode(Word):
    """Which fields are shown if nothing is said of them."""

    INCLUDE_ALL = "INCLUDE_ALL"
    EXCLUDE_ALL = "EXCLUDE_ALL"


class FieldMatchMode(Word):
    """Whether a rule's name is that of a field at any depth, or the whole path from the root: `user.email`."""

    ANYWHERE = "ANYWHERE"
    PATH = "PATH"


@dataclass(frozen=True)
class PreviewField:
    """The fields that a rule is about."""

    name: str
    match: FieldMatchMode = FieldMatchMode.ANYWHERE

    def __post_init__(self) -> None:
        object.__setattr__(self, "match", to_word(FieldMatchMode, self.match, "match"))


@dataclass(frozen=True)
class PreviewConfig:
    """What to show. `exclude` wins over everything; what is in `mask` is shown, as `mask_string`."""

    mode: PreviewMode
    include: list[PreviewField] = field(default_factory=list)
    exclude: list[PreviewField] = field(default_factory=list)
    mask: list[PreviewField] = field(default_factory=list)
    mask_string: str = "***"
    max_preview_bytes: int = 4096

    def __post_init__(self) -> None:
        object.__setattr__(self, "mode", to_word(PreviewMode, self.mode, "mode"))


def build_preview(value: Any, config: PreviewConfig) -> dict[str, Any] | None:
    """Some fields of a dictionary, nested as they are there; None if there are none, or `value` is no dictionary.

    Fields are taken in their order until one does not fit into `max_preview_bytes`. What is in the dictionaries of a
    list stands at the list's own path, the last one winning; a list's other items, empty dictionaries and keys with a
    dot in them are passed over.
    """
    if not isinstance(value, dict):
        return None
    preview: dict[str, Any] = {}
    size = 2  # the braces
    for path, shown in _fields(value, "", (), config):
        text = json.dumps(shown, default=plain)
        size += len(path.encode(errors="surrogatepass")) + len(text) + 4  # two quotes, a colon, a comma
        if size > config.max_preview_bytes:
            break
        _put(preview, path.split("."), shown if _is_plain(shown) else json.loads(text))
    return preview or None


def _fields(
    value: dict[Any, Any], above: str, names: tuple[str, ...], config: PreviewConfig
) -> Iterator[tuple[str, Any]]:
    """The paths and values of what is to be shown."""
    for key, held in value.items():
        name = str(key)
        if "." in name:
            continue
        path = f"{above}.{name}" if above else name
        within = (*names, name)
        if _is_named(config.exclude, path, (name,)):
            continue
        if _is_named(config.mask, path, (name,)):
            yield path, config.mask_string
        elif isinstance(held, dict):
            yield from _fields(held, path, within, config)
        elif isinstance(held, list):
            yield from _items(held, path, within, config)
        elif config.mode is PreviewMode.INCLUDE_ALL or _is_named(config.include, path, within):
            yield path, held


def _items(value: list[Any], path: str, names: tuple[str, ...], config: PreviewConfig) -> Iterator[tuple[str, Any]]:
    for item in value:
        if isinstance(item, dict):
            yield from _fields(item, path, names, config)
        elif isinstance(item, list):
            yield from _items(item, path, names, config)


def _is_named(rules: list[PreviewField], path: str, names: tuple[str, ...]) -> bool:
    return any(rule.name == path if rule.match is FieldMatchMode.PATH else rule.name in names for rule in rules)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float))


def _put(preview: dict[str, Any], path: list[str], value: Any) -> None:
    *folders, last = path
    here = preview
    for name in folders:
        inside = here.get(name)
        if not isinstance(inside, dict):
            inside = here[name] = {}
        here = inside
    here[last] = value
