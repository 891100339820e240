# Two images: `api` has no torch and starts in a second; `worker` has PyPI's torch, with CUDA, and computes on a GPU or
# without. Every package comes from the lists that .ci/lock writes, with its hash.
FROM python:3.11-slim AS base
# What is written goes to /data and /tmp: the root file system can be read-only.
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PATH=/opt/zooscout/bin:$PATH ZOOSCOUT_DATA_DIR=/data ZOOSCOUT_LOG_FORMAT=json HF_HOME=/data/cache/huggingface
RUN useradd --uid 10001 --no-create-home --home-dir /data zooscout && mkdir /data && chown zooscout:zooscout /data

FROM base AS api-packages
WORKDIR /src
RUN python -m venv /opt/zooscout
COPY requirements-api.lock ./
RUN pip install --no-deps --require-hashes -r requirements-api.lock

FROM api-packages AS worker-packages
COPY requirements-worker.lock requirements-cuda.lock ./
RUN pip install --no-deps --require-hashes -r requirements-worker.lock -r requirements-cuda.lock

FROM api-packages AS wheel
COPY requirements-build.lock ./
RUN pip install --no-deps --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY migrations migrations
COPY estimators estimators
COPY zoo zoo
COPY service service
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist .

FROM base AS worker
COPY --from=worker-packages /opt/zooscout /opt/zooscout
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist pip install --no-deps /dist/*.whl
USER 10001:10001
WORKDIR /data
VOLUME /data
CMD ["zooscout", "worker"]

FROM base AS api
COPY --from=api-packages /opt/zooscout /opt/zooscout
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist pip install --no-deps /dist/*.whl
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8750
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8750/readyz', timeout=2)"]
CMD ["zooscout", "serve", "--no-worker", "--host", "0.0.0.0", "--port", "8750"]
