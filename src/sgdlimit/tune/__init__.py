"""Hyper-parameters, schedules and derivatives by theory: what a solve without run-to-run noise answers when it is turned round."""

from .numbers import tune
from .schedule import tune_schedule
from .sensitivity import sensitivity

__all__ = ["sensitivity", "tune", "tune_schedule"]
