"""What runs the branches of a batch."""

from perdure.sdk.drivers.crew import Crew

__all__ = ["Crew"]
