"""The audit entry of what a command has done to a store."""

import getpass
import logging
from collections.abc import Mapping
from typing import Any

from perdure.identity.audit import Entry, change_of, shown
from perdure.model.error import StoreError
from perdure.service.clock import SystemClock
from perdure.store.protocol import Store

log = logging.getLogger("perdure.audit")


def note(store: Store, operation: str, resource: str, parameters: Mapping[str, Any] | None = None) -> None:
    """Write an entry under the name of the account that typed the command."""
    entry = Entry(
        at_ms=SystemClock().now_ms(),
        caller=f"cli:{_account()}",
        operation=operation,
        resource=resource,
        parameters=shown(parameters or {}),
    )
    try:
        store.change([change_of(entry)])
    except StoreError as error:  # what the command was for is done
        log.warning("audit entry not written", extra={"error": str(error)})


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"
