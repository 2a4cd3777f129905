"""Text to Spec: the notation, which knows no shapes."""
