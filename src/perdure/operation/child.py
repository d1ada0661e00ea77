"""child: operations under a context of their own."""

from perdure.sdk.operations.child import child, virtual_child

__all__ = ["child", "virtual_child"]
