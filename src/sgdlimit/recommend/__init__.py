"""Learning rate, batch size and stopping time for real data, before any training."""

from .api import Recommendation, recommend

__all__ = ["Recommendation", "recommend"]
