"""Paths drawn from the limit's laws."""
