"""temporary"""

from dataclasses import dataclass
from typing import Any

from perdure.model import error as model


@dataclass(frozen=True)
class ErrorObject:
    message: str | None
    type: str | None
    data: str | None
    stack_trace: list[str] | None

    @classmethod
    def of(cls, error: model.ErrorObject) -> "ErrorObject":
        return cls(error.message, error.type, error.data, list(error.stack_trace) if error.stack_trace else None)

    def to_dict(self) -> dict[str, Any]:
        return {
            k: v
            for k, v in (
                ("ErrorMessage", self.message),
                ("ErrorType", self.type),
                ("ErrorData", self.data),
                ("StackTrace", self.stack_trace),
            )
            if v is not None
        }

    @classmethod
    def from_dict(cls, d: Any) -> "ErrorObject":
        return cls(d.get("ErrorMessage"), d.get("ErrorType"), d.get("ErrorData"), d.get("StackTrace"))
