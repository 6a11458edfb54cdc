FROM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -tags=disable_grpc_modules -trimpath -ldflags='-s -w' -o /out/ ./gateway ./workerd

FROM debian:bookworm-slim AS runtime
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates curl \
 && rm -rf /var/lib/apt/lists/*
# A new volume at /data/media takes its owner from here. Both programs write as the same user.
RUN useradd --system --uid 10001 --user-group darkroom \
 && install -d -o darkroom -g darkroom -m 0700 /data/media
USER darkroom
ENV DARKROOM_STORAGE=file:///data/media

FROM runtime AS gateway
COPY --from=build /out/gateway /usr/local/bin/
EXPOSE 8484
CMD ["gateway", "serve"]

FROM runtime AS workerd
USER root
RUN apt-get update \
 && apt-get install -y --no-install-recommends ffmpeg \
 && rm -rf /var/lib/apt/lists/*
USER darkroom
COPY --from=build /out/workerd /usr/local/bin/
CMD ["workerd"]
