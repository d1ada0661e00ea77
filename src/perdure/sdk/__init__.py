"""The inside of the SDK. Function authors import `perdure`; nothing here is a contract."""
