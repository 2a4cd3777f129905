"""What runs, in which order, where in memory."""
