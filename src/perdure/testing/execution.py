"""The official home of the status of executions."""

from perdure.model.execution import ExecutionStatus as ExecutionStatus

__all__ = ["ExecutionStatus"]
