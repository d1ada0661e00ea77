"""A node: the process that serves. It puts store, service, pools and API together."""
