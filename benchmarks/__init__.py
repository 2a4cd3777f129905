"""Hubel timed against its rivals: each in a process of its own, turn by turn, in one run."""
