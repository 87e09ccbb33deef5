# The server alone, without a system around it. Claude Code starts it as it does the program:
#
#     claude --mcp-config '{"mcpServers":{"claude-socket":{"command":"docker","args":
#         ["run","-i","--rm","-p","3100:3100","-e","CLAUDE_SOCKET_TOKEN","claude-socket"]}}}' \
#         --dangerously-load-development-channels server:claude-socket
#
# In there everything comes from another machine, so nothing listens without a token.
# This image has a C compiler, for SQLite.
FROM rust:1.95-alpine AS build
WORKDIR /build
COPY . .
RUN cargo build --locked --release --bin claude-socket

FROM scratch
COPY --from=build /build/target/release/claude-socket /
USER 65532:65532
ENV CLAUDE_SOCKET_HOST=0.0.0.0
EXPOSE 3100
ENTRYPOINT ["/claude-socket"]
