"""The HTTP face of the service: the Lambda API, as AWS's clients call it."""
