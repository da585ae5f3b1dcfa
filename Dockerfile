# Two images from one file: `api` (no TensorFlow; it also runs the migrations) and `worker` (trains).
#
#     docker build --target api -t selfnorm-api .
#     docker build --target worker -t selfnorm-worker .
#
# 3.13 is the newest Python for which every package of the worker's lock file has a wheel.
FROM python:3.13-slim AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1


# The lock files come before the source: a change of code then installs the project only, not TensorFlow anew.
FROM base AS builder
WORKDIR /src
RUN python -m venv /opt/venv

FROM builder AS api-builder
COPY deploy/locks/api.txt deploy/locks/
RUN --mount=type=cache,target=/root/.cache/pip pip install --require-hashes -r deploy/locks/api.txt
COPY pyproject.toml README.md ./
COPY migrations migrations
COPY service service
COPY workers workers
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

FROM builder AS worker-builder
COPY deploy/locks/worker.txt deploy/locks/
RUN --mount=type=cache,target=/root/.cache/pip pip install --require-hashes -r deploy/locks/worker.txt
COPY pyproject.toml README.md ./
COPY migrations migrations
COPY service service
COPY workers workers
RUN pip install --no-cache-dir --no-deps --no-build-isolation .


# The user is a number, so that Kubernetes can see that it is not root. Nothing that it may write is in the image except
# the folder for data sets: both images run on a read-only root file system with a writable /tmp.
FROM base AS runtime
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin selfnorm
# `python -m workers` looks for modules in the working directory first, so that folder is empty and belongs to root.
WORKDIR /srv/selfnorm
# ONNX Runtime sends usage data to its maker unless told not to.
ENV ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1
STOPSIGNAL SIGTERM


FROM runtime AS worker
# A new volume takes the owner of the folder that it covers; without this line the worker could not write there.
RUN install --directory --owner=selfnorm --group=selfnorm /var/lib/selfnorm/keras /var/lib/selfnorm/scratch
# Keras keeps the data sets that it downloads here.
ENV KERAS_HOME=/var/lib/selfnorm/keras
COPY --from=worker-builder /opt/venv /opt/venv
USER 10001:10001
CMD ["selfnorm", "worker"]


# The last stage is what `docker build` makes without --target.
FROM runtime AS api
# Matplotlib keeps its list of fonts there; without a folder that it may write to it would make it anew in every process.
ENV MPLCONFIGDIR=/tmp/matplotlib
COPY --from=api-builder /opt/venv /opt/venv
USER 10001:10001
EXPOSE 8000
# Whether the process answers, not whether it is ready: a database that is down is no reason to replace the API. No
# proxy, for Docker hands the proxies of its own configuration to every container.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD [ \
    "python", "-c", \
    "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:8000/healthz', timeout=4)" \
]
CMD ["selfnorm", "api", "--host", "0.0.0.0", "--port", "8000"]
