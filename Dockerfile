# icm-bench on the processor:
#   docker build --build-arg TORCH_INDEX=URL -t icm-bench .
#   docker run --rm -v "$PWD:/work" icm-bench run --codecs icm,vvc,jpeg --limit 8
# URL is the index of CPU builds that PyTorch's installation page names for "Linux, pip, CPU"; without it the image holds CUDA
# too, and is 4 GB larger.
FROM python:3.11-slim-bookworm

ARG TORCH_INDEX=
COPY . /opt/icm-bench
RUN if [ -n "$TORCH_INDEX" ]; then pip install --no-cache-dir --index-url "$TORCH_INDEX" torch torchvision; fi \
    && pip install --no-cache-dir /opt/icm-bench \
    && rm -rf /opt/icm-bench \
    && useradd --create-home user

USER user
WORKDIR /work
ENTRYPOINT ["icm-bench"]
CMD ["--help"]
