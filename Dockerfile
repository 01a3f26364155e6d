# What serves a bundle, and nothing that trains. The bundle is mounted, or copied into an image of your own, at /bundle.
#
#   docker build -t headway .                                (--build-arg EXTRAS=serve,int8 for bundles of 8 bits)
#   docker run -e HEADWAY_TOKEN -v "$PWD/bundle:/bundle:ro" -p 127.0.0.1:8000:8000 headway
FROM python:3.11-slim AS build
ARG EXTRAS=serve
COPY pyproject.toml README.md LICENSE /headway/
COPY src /headway/src
RUN python -m venv /opt/headway && /opt/headway/bin/pip install --no-cache-dir "/headway[$EXTRAS]"

FROM python:3.11-slim
COPY --from=build /opt/headway /opt/headway
ENV PATH=/opt/headway/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin headway
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
# Beyond loopback the server asks for a token: HEADWAY_TOKEN.
ENTRYPOINT ["headway", "serve", "/bundle", "--host", "0.0.0.0", "--port", "8000"]
