"""Which service a function talks to, as its environment says it."""

from collections.abc import Mapping
from typing import Final

ENDPOINT: Final = "PERDURE_ENDPOINT"
"""The environment variable that holds the URL of a Perdure server."""
LAMBDA_ENDPOINT: Final = "AWS_ENDPOINT_URL_LAMBDA"


def endpoint_in(environment: Mapping[str, str]) -> str | None:
    """The URL of the Perdure server that a function is to talk to; None if it is to use boto3.

    `PERDURE_ENDPOINT` says that there is a Perdure server. Where `AWS_ENDPOINT_URL_LAMBDA` points elsewhere, somebody
    wants to talk to something else, and boto3 does.
    """
    url = environment.get(ENDPOINT)
    if not url:
        return None
    other = environment.get(LAMBDA_ENDPOINT)
    return url if not other or other.rstrip("/") == url.rstrip("/") else None
