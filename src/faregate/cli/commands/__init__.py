"""The commands, one module for each group. Each parses, calls a use case, and prints the result."""
