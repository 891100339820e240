# Two images: `api` has no torch and starts in a second; `worker` has torch with CUDA from PyPI and computes.
FROM python:3.12-slim AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 ZOOSCOUT_DATA_DIR=/data
RUN useradd --uid 10001 --create-home zooscout && mkdir /data && chown zooscout /data
WORKDIR /app
COPY pyproject.toml README.md ./
COPY estimators estimators
COPY zoo zoo
COPY service service
COPY migrations migrations
VOLUME /data

FROM base AS api
RUN pip install '.[s3]'
USER zooscout
EXPOSE 8750
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8750/readyz', timeout=2)"]
CMD ["zooscout", "serve", "--no-worker", "--host", "0.0.0.0", "--port", "8750"]

FROM base AS worker
RUN pip install '.[worker,s3]'
USER zooscout
CMD ["zooscout", "worker"]
