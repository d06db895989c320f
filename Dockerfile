# One image for every process of the product; what it does is its command: see deploy/compose.yaml.
#
#   docker build -t leads-pipeline .
#
# What it needs is locked with hashes; nothing else is fetched. Bytecode is compiled here, because every Dagster run is a new
# process that would else compile its imports anew.
FROM python:3.11-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/leads_pipeline
WORKDIR /build
COPY requirements/base.lock requirements/base.lock
RUN /opt/leads_pipeline/bin/pip install --no-deps --require-hashes -r requirements/base.lock
COPY pyproject.toml README.md LICENSE dagster.yaml workspace.yaml leads.yaml ./
COPY dbt_project dbt_project
COPY leads_pipeline leads_pipeline
RUN /opt/leads_pipeline/bin/pip install --no-deps --no-build-isolation . \
    && /opt/leads_pipeline/bin/python -m compileall -q -j 0 /opt/leads_pipeline/lib

FROM python:3.11-slim-bookworm

RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin leads \
    && install -d -o leads -g leads /var/lib/leads_pipeline /var/lib/leads_pipeline/dagster
COPY --from=build /opt/leads_pipeline /opt/leads_pipeline
COPY --chown=leads:leads dagster.yaml /var/lib/leads_pipeline/dagster/dagster.yaml

ENV PATH=/opt/leads_pipeline/bin:$PATH \
    DAGSTER_HOME=/var/lib/leads_pipeline/dagster \
    LEADS_CONFIG=/etc/leads_pipeline/leads.yaml \
    DAGSTER_DISABLE_TELEMETRY=yes DO_NOT_TRACK=1 GX_ANALYTICS_ENABLED=false \
    PYTHONUNBUFFERED=1
USER 10001
WORKDIR /var/lib/leads_pipeline
ENTRYPOINT ["leads"]
CMD ["--help"]
