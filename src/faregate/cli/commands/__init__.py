"""The commands, a module a group. Each parses, calls one use case, and tells what came of it."""
