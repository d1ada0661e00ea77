"""Crash-everywhere: an execution must come to the same end wherever its process dies."""
