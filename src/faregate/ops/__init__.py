"""What operators ask: whether every number is what it must be."""
