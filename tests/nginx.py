"""An nginx of one test, with the configuration of an example, in front of an API."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import pytest

from example_rig import EXAMPLES
from waiting import WAIT_S_MAX, wait_for
from wire_client import Api, free_port

PROGRAM = Path("/usr/sbin/nginx")
CONFIGURATION = EXAMPLES / "behind_nginx/nginx.conf"
UNCHANGED: Mapping[str, str] = MappingProxyType({})
#: What the distribution has around the files of `conf.d`; all paths lie in the folder of the test.
MAIN = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/conf.d/*.conf;
}}
"""


@contextmanager
def nginx(api: Api, folder: Path, changes: Mapping[str, str] = UNCHANGED) -> Iterator[Api]:
    """Run nginx before an API.

    Args:
        api: The API.
        folder: Where its files are.
        changes: Texts of the example's configuration, and what the test has in their place.
    """
    port = free_port()
    text = CONFIGURATION.read_text("utf-8")
    ports = {"listen 8080": f"listen 127.0.0.1:{port}", "127.0.0.1:8000": f"127.0.0.1:{api.port}"}
    for shown, changed in {**changes, **ports}.items():
        assert shown in text, shown
        text = text.replace(shown, changed)
    (folder / "conf.d").mkdir(parents=True)
    (folder / "conf.d/api.conf").write_text(text, encoding="utf-8")
    (folder / "main.conf").write_text(MAIN.format(folder=folder), encoding="utf-8")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM, "-c", folder / "main.conf", "-p", folder, "-e", "stderr"], stderr=log
        )
    front = Api(server="nginx", port=port, settings=api.settings, process=process)
    try:
        wait_for(lambda: front.listens() or process.poll() is not None, "nginx listens")
        assert process.poll() is None, (folder / "log").read_text("utf-8")
        yield front
    finally:
        process.terminate()
        process.wait(WAIT_S_MAX)


def check_installed() -> None:
    """Skip where servers of the environment are tested, and fail where Debian's are."""
    if os.environ.get("FAREGATE_TEST_SERVERS") != "debian":
        pytest.skip("nginx is a package of Debian: make test-servers")
    if not PROGRAM.exists():
        pytest.fail("this machine lacks nginx: apt-get install nginx-light", pytrace=False)
