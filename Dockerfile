# Three images from one file: `api` (no TensorFlow, no scikit-learn), `api-full` (the same with what settings can turn on:
# pictures, traces, an object store) and `worker` (trains; it also runs the migrations, for it can read all built-in tables).
#
#     docker build --target api -t selfnorm-api .
#     docker build --target api-full -t selfnorm-api-full .
#     docker build --target worker -t selfnorm-worker .
#
# 3.13 is the newest Python for which every package of the worker's lock file has a wheel.
FROM python:3.13-slim AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1


# What is installed, from lock files alone: a change of code leaves these layers as they are, here and in registries.
FROM base AS empty
WORKDIR /src
# The images' own pip installs into it, and stays outside.
RUN python -m venv --without-pip /opt/venv

FROM empty AS api-packages
COPY deploy/locks/api.txt deploy/locks/
RUN --mount=type=cache,target=/root/.cache/pip /usr/local/bin/pip --python /opt/venv install --require-hashes -r deploy/locks/api.txt

FROM api-packages AS api-full-packages
COPY deploy/locks/api-full.txt deploy/locks/
RUN --mount=type=cache,target=/root/.cache/pip /usr/local/bin/pip --python /opt/venv install --require-hashes -r deploy/locks/api-full.txt

FROM empty AS worker-packages
COPY deploy/locks/worker.txt deploy/locks/
RUN --mount=type=cache,target=/root/.cache/pip /usr/local/bin/pip --python /opt/venv install --require-hashes -r deploy/locks/worker.txt


# The project itself, as a wheel of a megabyte. What builds it (setup.py takes D3 out of one of these) is in no image.
FROM base AS package
WORKDIR /src
COPY deploy/locks/build.txt deploy/locks/
RUN --mount=type=cache,target=/root/.cache/pip pip install --no-deps --require-hashes -r deploy/locks/build.txt
COPY pyproject.toml setup.py README.md ./
COPY migrations migrations
COPY service service
COPY workers workers
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel .


# The user is a number, so that Kubernetes can see that it is not root. Nothing that it may write is in the image except
# the folders for data sets and scratch: all images run on a read-only root file system with a writable /tmp.
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
# Keras keeps the data sets that it downloads in the first; the second file is touched while training processes live.
ENV KERAS_HOME=/var/lib/selfnorm/keras \
    SELFNORM_HEALTH_FILE=/tmp/worker-alive
COPY --from=worker-packages /opt/venv /opt/venv
RUN --mount=type=bind,from=package,source=/wheel,target=/wheel /usr/local/bin/pip --python /opt/venv install --no-cache-dir --no-deps /wheel/*.whl
USER 10001:10001
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=3 CMD ["sh", "-c", "test -n \"$(find /tmp/worker-alive -mmin -1)\""]
CMD ["selfnorm", "worker"]


FROM runtime AS api-runtime
# Matplotlib keeps its list of fonts there; without a folder that it may write to it would make it anew in every process.
ENV MPLCONFIGDIR=/tmp/matplotlib
EXPOSE 8000
# Whether the process answers, not whether it is ready: a database that is down is no reason to replace the API. No
# proxy, for Docker hands the proxies of its own configuration to every container.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD [ \
    "python", "-c", \
    "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:8000/healthz', timeout=4)" \
]
CMD ["selfnorm", "api", "--host", "0.0.0.0", "--port", "8000"]


FROM api-runtime AS api-full
COPY --from=api-full-packages /opt/venv /opt/venv
RUN --mount=type=bind,from=package,source=/wheel,target=/wheel /usr/local/bin/pip --python /opt/venv install --no-cache-dir --no-deps /wheel/*.whl
USER 10001:10001


# The last stage is what `docker build` makes without --target.
FROM api-runtime AS api
COPY --from=api-packages /opt/venv /opt/venv
RUN --mount=type=bind,from=package,source=/wheel,target=/wheel /usr/local/bin/pip --python /opt/venv install --no-cache-dir --no-deps /wheel/*.whl
USER 10001:10001
