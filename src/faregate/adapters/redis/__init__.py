"""Redis: live credits, decided by Lua, and the stream of their records."""
