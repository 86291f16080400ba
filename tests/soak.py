"""What is searched long, or by much data: `make soak`, and not `make test`."""

import os

import pytest

#: How many sequences `make soak` asks for; none of `make test`.
SOAK = int(os.environ.get("FAREGATE_TEST_SOAK", "0"))

soaked = pytest.mark.skipif(not SOAK, reason="takes a minute, and is part of make soak")
