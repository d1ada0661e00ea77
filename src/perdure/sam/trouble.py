"""What is wrong in a template, and where: the file, the line, the resource, the property."""

import msgspec

from perdure.model.error import InvalidParameterValue


class TemplateError(InvalidParameterValue):
    """A template that can't be read. `file`, `line` (from 1) and `place` (`Resources.Order.Properties.Timeout`) say
    where; the message has them, too.
    """

    def __init__(self, message: str, *, file: str, line: int, place: str = "", hint: str | None = None) -> None:
        super().__init__(f"{file}, line {line}: {message}", hint=hint)
        self.file = file
        self.line = line
        self.place = place


class Where(msgspec.Struct, frozen=True):
    """A place in a template: `path` is the names that lead to it."""

    file: str
    path: tuple[str, ...] = ()

    def at(self, *names: str | int) -> "Where":
        return Where(self.file, (*self.path, *map(str, names)))

    def __str__(self) -> str:
        return ".".join(self.path)

    def refusal(self, line: int, message: str, hint: str | None = None) -> TemplateError:
        """A TemplateError whose message begins with the place."""
        place = str(self)
        text = f"{place} {message}" if place else message
        return TemplateError(text, file=self.file, line=line, place=place, hint=hint)
