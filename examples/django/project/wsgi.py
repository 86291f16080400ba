"""The project for servers of WSGI."""

import os

from django.core.wsgi import get_wsgi_application

from faregate import build_sync_gate
from faregate.wsgi import FaregateWSGI
from project.charging import RULES, identify, settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

gate = build_sync_gate(settings)  # Each process makes its own, and closes it at its end.
application = FaregateWSGI(get_wsgi_application(), gate, identify, rules=RULES)
