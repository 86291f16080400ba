"""Several processes of one API, each scraped by itself, as docs/operate.md shows."""

import os
import re
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

from faregate import Settings
from scrapes import scrape
from waiting import WAIT_S_MAX, wait_for
from wire_client import Api, free_port

PAGE = Path(__file__).resolve().parents[2] / "docs/operate.md"
#: One more than there are processes.
PORTS = 3
REQUESTS = 20


def test_processes_of_one_api_are_scraped_on_ports_of_their_own(
    wire_settings: Settings, tmp_path: Path
) -> None:
    """What they tell adds up to all requests, and a port without a process is silent."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    (code,) = [block for block in blocks if "serve(GateCollector(gate)" in block]
    ports = [free_port() for _ in range(PORTS)]
    shown = code.replace("range(9102, 9110)", repr(ports))
    assert shown != code
    # The ledger is shared, and another app of the docs has the same visitors.
    shown = re.sub(r'UUID\("[^"]+"\)', f'UUID("{uuid4()}")', shown)
    (tmp_path / "several.py").write_text(shown, encoding="utf-8")
    port = free_port()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
        "FAREGATE_REDIS_URL": wire_settings.redis_url,
        "FAREGATE_POSTGRES_URL": wire_settings.postgres_url,
    }
    command = [sys.executable, "-m", "uvicorn", "several:app", "--workers", "2"]
    with subprocess.Popen([*command, "--port", str(port)], env=environment) as process:
        api = Api(server="uvicorn", port=port, settings=wire_settings, process=process)
        try:
            wait_for(lambda: sum(bool(scrape(one)) for one in ports) == 2, "both tell")
            wait_for(api.listens, "uvicorn listens")
            for _ in range(REQUESTS):
                assert api.ask("/").status in {402, 404}
            told = [scrape(one) for one in ports]
        finally:
            process.terminate()
            process.wait(WAIT_S_MAX)
    decided = [
        sum(count for name, count in one.items() if name.startswith("faregate_decisions_total"))
        for one in told
    ]
    assert sum(decided) == REQUESTS
    assert [bool(one) for one in told] == [True, True, False]
