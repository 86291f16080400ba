"""An app under uvicorn with and without something in front of it, asked over 64 connections."""

import os
import socket
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.bench import Bench, Sample, rotated
from benchmarks.internals import install_users
from benchmarks.processes import Talker, cpu_s, talker
from benchmarks.servers import Place
from benchmarks.users import user_ids

NAME = "middleware"
BASE = "bare app"
CONNECTIONS = 64
USERS = 64
#: Longer than a decision is measured, since processor time is told in hundredths of a second.
SECONDS = 2.0
VARIANTS = {
    "Starlette": ("bare app", "faregate", "limits", "slowapi"),
    "FastAPI": ("bare app", "faregate", "limits", "slowapi", "fastapi-limiter"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """An app that runs."""

    framework: str
    variant: str
    port: int
    process: Talker


def run(bench: Bench) -> list[Sample]:
    """Run all apps; ask them in turn, each once a round."""
    frameworks = ["Starlette"] if bench.plan.is_quick else list(VARIANTS)
    samples: list[Sample] = []
    with (
        bench.servers.place() as place,
        talker("http_load") as load,
        ExitStack() as opened,
    ):
        apps = [
            _start(opened, framework, variant, place)
            for framework in frameworks
            for variant in VARIANTS[framework]
        ]
        install_users(place.redis_url, user_ids("user", USERS))
        for number in range(bench.plan.rounds):
            samples += [_measured(bench, app, load, number) for app in rotated(apps, number)]
    return samples


def _start(opened: ExitStack, framework: str, variant: str, place: Place) -> App:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    arguments = (framework, variant, str(port), place.redis_url, place.postgres_url)
    process = opened.enter_context(talker("serve", *arguments))
    return App(framework=framework, variant=variant, port=port, process=process)


def _measured(bench: Bench, app: App, load: Talker, number: int) -> Sample:
    question = {"port": app.port, "connections": CONNECTIONS, "users_count": USERS}
    load.ask(question | {"seconds": 0.5})
    before_s = cpu_s(app.process.pid)
    told = load.ask(question | {"seconds": SECONDS})
    used_s = cpu_s(app.process.pid) - before_s
    answers = told["requests"]
    told["app_cpu_us"] = round(used_s * 1e6 / answers, 1) if answers else None
    bench.say(
        f"middleware {number + 1}: {app.framework}, {app.variant}: {told['rate']:,.0f}/s,"
        f" {told['app_cpu_us']} µs, p99 {told['p99_ms']} ms {told['errors'] or ''}"
    )
    return Sample(
        scenario=NAME,
        case=app.framework,
        variant=app.variant,
        round=number,
        values=told | {"load_1_min": round(os.getloadavg()[0], 2)},
    )
