"""Values that every room speaks: ids, operations, executions, events, errors. They know of no room."""
