"""Data to pictures and text."""
