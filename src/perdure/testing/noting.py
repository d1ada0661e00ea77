"""A worker of a server that notes with which serdes results are written, so that a test gets their values."""

from perdure.serdes import watched
from perdure.service.invocation import Invocation
from perdure.worker.remote import RemoteInvocationClient, RemoteWorker


class NotingWorker(RemoteWorker):
    """Runs handlers as any other worker does."""

    def _client_of(self, invocation: Invocation) -> RemoteInvocationClient:
        watched.setdefault(invocation.arn, {})
        return super()._client_of(invocation)
