"""The project for servers of ASGI. Django has no lifespan: Starlette opens and closes the gate."""

import os

from django.core.asgi import get_asgi_application
from starlette.applications import Starlette
from starlette.routing import Mount

from faregate import build_gate
from faregate.asgi import FaregateMiddleware, lifespan_of
from project.charging import RULES, identify, settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

gate = build_gate(settings)
charged = FaregateMiddleware(get_asgi_application(), gate, identify, rules=RULES)
application = Starlette(routes=[Mount("/", charged)], lifespan=lifespan_of(gate, identify))
