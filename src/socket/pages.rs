//! The answers to plain HTTP requests: the web chat for browsers, JSON for scripts, Prometheus
//! text for monitoring.

use std::fmt::Write;
use std::time::SystemTime;

use http::{Request, StatusCode};

use super::assets;
use super::http::Response;
use crate::health::{Figures, Health, StoreState};

/// The beginnings of paths that are for programs. What is unknown there is not found, while any
/// other path answers with the web chat or with the health. `/metrics` stands for whatever begins
/// so, such as `/metrics.json`: whoever misspells it must get no page.
const RESERVED: [&str; 4] = ["/api/", "/files/", "/client/", "/metrics"];

/// Returns the answer to a request for the web chat or one of its files. These are the same for
/// everybody. They need no token, so that a browser can load the page in which the token is then
/// typed.
pub fn static_page(request: &Request<()>) -> Option<Response> {
    let headers = request.headers();
    match request.uri().path() {
        "/healthz" | "/metrics" => None,
        path => match assets::find(path) {
            Some(asset) => Some(asset.answer(headers)),
            None if is_reserved(path) => None,
            None => assets::wants_html(headers).then(|| assets::page(request.uri(), headers)),
        },
    }
}

/// Returns `true` if a request has no page of its own. It asks whether a WebSocket at this URL
/// would be admitted, because browsers hide why one was refused.
pub fn asks_for_socket(request: &Request<()>) -> bool {
    let path = request.uri().path();
    path != "/healthz" && !is_reserved(path) && static_page(request).is_none()
}

/// Returns the answer to a request for an unknown path that is for programs.
pub fn not_found(path: &str) -> Option<Response> {
    let is_unknown = is_reserved(path) && path != "/metrics" && assets::find(path).is_none();
    is_unknown.then(|| {
        let why = "there is nothing at this path: messages go over the WebSocket, /healthz and /metrics say how the server is, and the web chat is at /";
        Response::refusal(StatusCode::NOT_FOUND, "not_found", why)
    })
}

fn is_reserved(path: &str) -> bool {
    RESERVED.iter().any(|start| path.starts_with(start))
}

/// Returns the answer to a request for the health or the figures of the server.
pub fn answer(path: &str, started: SystemTime, figures: &Figures) -> Response {
    match path {
        "/metrics" => Response::text("text/plain; version=0.0.4; charset=utf-8", metrics(figures)),
        "/healthz" => Response::json(&Health::of(started, figures)),
        // A browser gets the web chat at the same path.
        _ => Response::json(&Health::of(started, figures)).vary_accept(),
    }
}

fn metrics(figures: &Figures) -> String {
    let Figures { hub: stats, store } = figures;
    let fails = matches!(store.state, StoreState::Failing | StoreState::Unavailable);
    let counts = &stats.counters;
    let figures: [(&str, &str, &str, u64); 14] = [
        (
            "sessions",
            "gauge",
            "Chat sessions there are.",
            stats.sessions as u64,
        ),
        (
            "clients",
            "gauge",
            "Clients connected.",
            stats.clients as u64,
        ),
        (
            "permissions_pending",
            "gauge",
            "Permission requests waiting for a verdict.",
            stats.permissions as u64,
        ),
        (
            "host_ready",
            "gauge",
            "Whether Claude Code takes messages.",
            u64::from(stats.agent_ready),
        ),
        (
            "messages_unseen",
            "gauge",
            "Messages that Claude Code should have put into its conversation, and has not.",
            stats.channel.unseen as u64,
        ),
        (
            "messages_seen_total",
            "counter",
            "Messages that Claude Code has put into its conversation.",
            counts.seen,
        ),
        (
            "messages_total",
            "counter",
            "Messages taken from clients.",
            counts.messages,
        ),
        (
            "messages_resent_total",
            "counter",
            "Messages sent again under a known id, and not taken twice.",
            counts.resent,
        ),
        (
            "replies_total",
            "counter",
            "Replies from Claude.",
            counts.replies,
        ),
        (
            "verdicts_total",
            "counter",
            "Verdicts given by clients.",
            counts.verdicts,
        ),
        (
            "refused_total",
            "counter",
            "Frames of clients that were refused.",
            counts.rejected,
        ),
        (
            "store_bytes",
            "gauge",
            "Bytes that the store has on disk.",
            store.bytes,
        ),
        (
            "store_pending",
            "gauge",
            "Changes that are not on disk yet.",
            store.pending,
        ),
        (
            "store_failing",
            "gauge",
            "Whether what is said can't be written to disk.",
            u64::from(fails),
        ),
    ];
    let mut text = String::new();
    for (name, kind, help, value) in figures {
        let name = format!("claude_socket_{name}");
        // Writing to memory cannot fail.
        let _ = writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
        );
    }
    text
}
