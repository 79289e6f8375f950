# The server on CPUs, with its page and the demo bundle.
#
#   docker build --tag inpaintrt .
#   docker run --publish 127.0.0.1:8000:8000 --volume ./api-keys.txt:/run/secrets/api_keys:ro inpaintrt
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY runtime/ runtime/
COPY export/inpaintrt_export/ export/inpaintrt_export/
COPY benchmarks/inpaintrt_bench/ benchmarks/inpaintrt_bench/
COPY engines/demo/ engines/demo/
RUN python -m venv /opt/inpaintrt && /opt/inpaintrt/bin/pip install --no-cache-dir '.[cpu,serve]'

FROM python:3.11.14-slim-bookworm
COPY --from=build /opt/inpaintrt /opt/inpaintrt
RUN useradd --uid 10001 --create-home inpaintrt
USER 10001
WORKDIR /home/inpaintrt
ENV PATH=/opt/inpaintrt/bin:$PATH INPAINTRT_ENGINES=/engines
EXPOSE 8000
HEALTHCHECK --start-period=2m CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=3)"]
ENTRYPOINT ["inpaintrt"]
CMD ["serve", "demo", "--host", "0.0.0.0", "--port", "8000", "--api-key-file", "/run/secrets/api_keys"]
