"""From the words of a command's options to the terms of a service."""

import re

from perdure.engine.terms import Limits, RetryPolicy, Terms
from perdure.model.error import InvalidParameterValue
from perdure.model.ids import Home


def home_of(region: str, account: str) -> Home:
    """Where the functions live; InvalidParameterValue unless ARNs can say it."""
    if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-[0-9]", region):
        raise InvalidParameterValue(f"the region must look like us-east-1, not {region!r}")
    if not re.fullmatch(r"[0-9]{12}", account):
        raise InvalidParameterValue(f"the account must be twelve digits, not {account!r}")
    return Home(region=region, account=account)


def terms_of(*, limits: str, retries: str) -> Terms:
    """`limits` is wide or aws, `retries` patient or emulator."""
    return Terms(
        limits=Limits.aws() if limits == "aws" else Limits(),
        retries=RetryPolicy.emulator() if retries == "emulator" else RetryPolicy(),
    )
