# One image for the API, the worker and the migrations: `faregate` is its command.
FROM python:3.13-slim-trixie AS build
WORKDIR /build
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY lua lua
COPY worker worker
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir wheels .

FROM python:3.13-slim-trixie
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY requirements.txt .
RUN pip install --no-cache-dir --require-hashes -r requirements.txt && rm requirements.txt
RUN --mount=type=bind,from=build,source=/build/wheels,target=/wheels \
    pip install --no-cache-dir --no-deps --no-index /wheels/*
RUN useradd --system --uid 10001 --no-create-home faregate
# By its number, so that Kubernetes can tell that it is not root.
USER 10001
ENTRYPOINT ["faregate"]
CMD ["--help"]
