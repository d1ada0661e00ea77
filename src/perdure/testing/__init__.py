"""The test kit: run durable functions in a test, look at all that they did, and say what should have happened."""
