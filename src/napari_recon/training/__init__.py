"""Training: one loop for all families."""
