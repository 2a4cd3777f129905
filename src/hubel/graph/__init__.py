"""Spec to checked Graph: integers only."""
