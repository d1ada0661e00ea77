"""The official home of the kinds of stores."""

from perdure.testing.web import StoreType as StoreType

__all__ = ["StoreType"]
