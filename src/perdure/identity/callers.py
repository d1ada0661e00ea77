"""Who calls: a user with an access key, a function with its role, or whoever sits at this machine."""

import msgspec

from perdure.identity.conditions import Facts
from perdure.identity.policies import Policy
from perdure.model.word import Word


class CallerKind(Word):
    USER = "user"
    ROLE = "role"
    ANONYMOUS = "anonymous"
    """Somebody on this machine, while the store has no access keys."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who has sent a request, and the policies that say what they may do.

    `name` is the user's, or the function's whose role it is. `arns` are the names that a policy's Principal may use,
    the caller's own first; who is anonymous has none. `source` is the address the request came from.
    """

    kind: CallerKind
    name: str
    arns: tuple[str, ...] = ()
    key_id: str | None = None
    source: str | None = None
    policies: tuple[Policy, ...] = ()
    facts: Facts = {}

    @property
    def shown(self) -> str:
        """The caller's ARN, or `anonymous`."""
        return self.arns[0] if self.arns else self.name

    @property
    def function(self) -> str | None:
        """The function that calls; None if it is none."""
        return self.name if self.kind is CallerKind.ROLE else None
