"""A project of Django behind the gate, served by ASGI or by WSGI."""
