"""Iris: a course tutor that runs on two CPU cores, for a whole class at once."""

__version__ = "0.1.0"
