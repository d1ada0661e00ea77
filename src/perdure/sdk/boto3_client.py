"""boto3's Lambda client as the SDK uses it. boto3 is loaded when a client is made, the public models when one is given.

Source of the time-outs: the official SDK's client.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, cast

from perdure.__about__ import __version__
from perdure.exceptions import CheckpointError, GetExecutionStateError, InvocationError

if TYPE_CHECKING:
    from perdure.lambda_service import CheckpointOutput, OperationUpdate, StateOutput

EXECUTION_RESULT_ID: Final = "execution-result"
"""The id of the update that carries a result or an error too large for the invocation's answer."""

PAGE_OPERATIONS_MAX: Final = 1000
CONNECT_TIMEOUT_S: Final = 5
READ_TIMEOUT_S: Final = 50


class Boto3LambdaClient(Protocol):
    """The two methods of boto3's Lambda client that are called."""

    def checkpoint_durable_execution(self, **parameters: Any) -> Any: ...

    def get_durable_execution_state(self, **parameters: Any) -> Any: ...


class WireClient:
    """A `DurableServiceClient` over one that takes and gives the objects of the wire."""

    def checkpoint_wire(
        self, arn: str, token: str, updates: Sequence[Mapping[str, Any]], client_token: str | None = None
    ) -> Mapping[str, Any]:
        """`checkpoint` with updates and answer as objects of JSON."""
        raise NotImplementedError

    def state_wire(self, arn: str, token: str, marker: str, max_items: int = PAGE_OPERATIONS_MAX) -> Mapping[str, Any]:
        """`get_execution_state` with the answer as an object of JSON."""
        raise NotImplementedError

    def checkpoint(
        self,
        durable_execution_arn: str,
        checkpoint_token: str,
        updates: "list[OperationUpdate]",
        client_token: str | None,
    ) -> "CheckpointOutput":
        from perdure.lambda_service import CheckpointOutput

        written = [update.to_dict() for update in updates]
        answer = self.checkpoint_wire(durable_execution_arn, checkpoint_token, written, client_token)
        return CheckpointOutput.from_dict(answer)

    def get_execution_state(
        self,
        durable_execution_arn: str,
        checkpoint_token: str,
        next_marker: str,
        max_items: int = PAGE_OPERATIONS_MAX,
    ) -> "StateOutput":
        from perdure.lambda_service import StateOutput

        return StateOutput.from_dict(self.state_wire(durable_execution_arn, checkpoint_token, next_marker, max_items))


class LambdaClient(WireClient):
    """boto3's Lambda client as a `DurableServiceClient`. Raises CheckpointError and GetExecutionStateError."""

    _shared: ClassVar["LambdaClient | None"] = None
    _making: ClassVar[Any] = threading.Lock()

    def __init__(self, client: Boto3LambdaClient) -> None:
        self.client = client

    @classmethod
    def initialize_client(cls) -> "LambdaClient":
        """The client of this process, made when it is first asked for.

        Region, credentials and endpoint are boto3's own affair: `AWS_REGION`, `AWS_ENDPOINT_URL_LAMBDA` and so on.
        Connecting may take 5 seconds, an answer 50.
        """
        with cls._making:
            if cls._shared is None:
                cls._shared = cls(_boto3_client())
            return cls._shared

    def checkpoint_wire(
        self, arn: str, token: str, updates: Sequence[Mapping[str, Any]], client_token: str | None = None
    ) -> Mapping[str, Any]:
        if not token:
            raise CheckpointError("can't checkpoint without a checkpoint token")
        more = {"ClientToken": client_token} if client_token is not None else {}
        try:
            answer: Mapping[str, Any] = self.client.checkpoint_durable_execution(
                DurableExecutionArn=arn, CheckpointToken=token, Updates=updates, **more
            )
        except Exception as error:
            raise CheckpointError.from_exception(error) from error
        return answer

    def state_wire(self, arn: str, token: str, marker: str, max_items: int = PAGE_OPERATIONS_MAX) -> Mapping[str, Any]:
        if not token:
            raise GetExecutionStateError("can't get the state of an execution without a checkpoint token")
        try:
            answer: Mapping[str, Any] = self.client.get_durable_execution_state(
                DurableExecutionArn=arn, CheckpointToken=token, Marker=marker, MaxItems=max_items
            )
        except Exception as error:
            raise GetExecutionStateError.from_exception(error) from error
        return answer


def _boto3_client() -> Boto3LambdaClient:
    """InvocationError if there can't be one: the execution waits for a function that is set up as it must be."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise InvocationError(
            "a durable function on Lambda needs boto3, which is not installed here: add boto3 to the package, or give "
            "durable_execution a `client=` of your own"
        ) from error
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S, read_timeout=READ_TIMEOUT_S, user_agent_extra=f"perdure/{__version__}"
    )
    try:
        return cast(Boto3LambdaClient, boto3.client("lambda", config=config))
    except BotoCoreError as error:
        raise InvocationError(f"boto3 can't make a client of Lambda: {error}") from error
