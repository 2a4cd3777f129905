"""Files that a model is kept in."""
