"""Convolutional networks: described in a line of text, checked, trained, and looked at."""

__version__ = "0.1.0"
