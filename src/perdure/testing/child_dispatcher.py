"""The official home of what a durable function may invoke."""

from perdure.testing.web import FunctionConfig as FunctionConfig, FunctionConfigs as FunctionConfigs

__all__ = ["FunctionConfig", "FunctionConfigs"]
