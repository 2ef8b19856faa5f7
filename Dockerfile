# The server of docs/serving.md. Weights are mounted: -v /path/to/checkpoints:/accm/checkpoints:ro
#   docker build --target front -t accm .        the project's own engine
#   docker build --target vllm -t accm-vllm .    with vLLM beside it
#   docker run -e ACCM_KEY=... -p 127.0.0.1:8000:8000 accm --visual-token-num 36
FROM python:3.12-slim AS front
WORKDIR /accm
COPY . .
RUN bash scripts/setup.sh serve
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=10m CMD [".venv/bin/python", "-c", \
    "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health')"]
ENTRYPOINT [".venv/bin/accm", "serve", "--host", "0.0.0.0", "--api-key-variable", "ACCM_KEY"]

FROM front AS vllm
RUN SETUP_ONLY=yes bash scripts/serve_vllm.sh
ENTRYPOINT ["bash", "scripts/serve_vllm.sh", "--host", "0.0.0.0", "--api-key-variable", "ACCM_KEY"]
