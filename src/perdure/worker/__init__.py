"""Takes invocations and runs handlers. The one room, beside the test kit, that knows both the service and the SDK."""
