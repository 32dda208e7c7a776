# lit_mtrl with everything that it needs, for NVIDIA GPUs or for CPUs; docs/docker.md shows its use.

# PyTorch's wheels bring CUDA's libraries (cuBLAS, cuDNN, NCCL, ...), so the smallest of NVIDIA's run-time images is the right one. What it has over
# plain Ubuntu: a container is refused at its start on a driver that is too old, and data-centre GPUs with somewhat older drivers work, too.
# Every Debian or Ubuntu with Python 3.11 to 3.13 will do instead; for CPUs: --build-arg BASE=debian:bookworm-slim --build-arg TORCH=cpu
ARG BASE=nvidia/cuda:13.0.2-base-ubuntu24.04
FROM ${BASE}

# Python unless the base has it; compilers for `engine=compile`; EGL and OSMesa for MuJoCo's pictures. Mesa 25.1 and later have no OSMesa:
# there its EGL draws on the CPU as well.
RUN export DEBIAN_FRONTEND=noninteractive \
    && apt-get update \
    && apt-get install --yes --no-install-recommends g++ tini libegl1 libgl1 libgl1-mesa-dri \
       $(python3 -c 'import ensurepip' 2>/dev/null || echo python3-dev python3-venv) \
    && (apt-get install --yes --no-install-recommends libosmesa6 || echo "no OSMesa in this base: MUJOCO_GL=egl alone") \
    && apt-get clean && rm -rf /var/lib/apt/lists/*

# From here on only a changed lock file installs anything again, and PyTorch not even for most of these changes.
ENV PATH=/opt/venv/bin:$PATH
ARG TORCH=cuda
COPY requirements-${TORCH}.lock /opt/locks/
RUN python3 -m venv /opt/venv \
    && pip install --no-cache-dir --no-deps --require-hashes -r /opt/locks/requirements-${TORCH}.lock
COPY requirements.lock /opt/locks/
RUN pip install --no-cache-dir --no-deps --require-hashes --no-build-isolation --use-pep517 -r /opt/locks/requirements.lock \
    && pip check

# Everybody may write to the two volumes, so that `docker run --user` works with any number. HOME is where compiled kernels are kept.
ARG UID=1000
ARG GID=1000
RUN groupadd --non-unique --gid ${GID} lit_mtrl \
    && useradd --non-unique --uid ${UID} --gid ${GID} --home-dir /cache --no-create-home lit_mtrl \
    && install --directory --mode=1777 --owner=${UID} --group=${GID} /workspace /cache
# PYTHONSAFEPATH: a checkout that lies in /workspace is not what runs, in no process that a run starts.
ENV HOME=/cache \
    USER=lit_mtrl \
    TORCHINDUCTOR_CACHE_DIR=/cache/inductor \
    MUJOCO_GL=egl \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics \
    MLFLOW_DISABLE_TELEMETRY=true \
    PYTHONPATH=/opt/lit_mtrl \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
COPY . /opt/lit_mtrl

# The image has no repository: runs are tagged with this commit.
ARG COMMIT=unknown
ENV LIT_MTRL_COMMIT=${COMMIT}
LABEL org.opencontainers.image.title=lit_mtrl org.opencontainers.image.revision=${COMMIT} org.opencontainers.image.licenses=MIT

USER ${UID}:${GID}
# outputs/, mlflow.db and mlartifacts/ are made here.
WORKDIR /workspace
VOLUME ["/workspace", "/cache"]
# tini hands signals on, and ends what a killed run's processes leave.
ENTRYPOINT ["tini", "--", "/opt/lit_mtrl/docker/entrypoint.sh"]
CMD ["--help"]
