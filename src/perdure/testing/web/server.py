"""The official home of the web service's settings."""

from perdure.testing.web import WebServiceConfig as WebServiceConfig

__all__ = ["WebServiceConfig"]
