//! The beginning of a connection: the HTTP head, the admission, and then either a page or the
//! handshake of a WebSocket, which goes on in [`reader`].

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;
use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderValue, Method, Request, StatusCode};
use log::warn;
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tungstenite::Error;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::server::{create_response, write_response};

use super::context::{ConnectionPermit, Context, LongHead};
use super::frame::CloseCode;
use super::http::{HeadError, Response, list_items, read_head};
use super::reader::{self, Upgraded};
use super::{Event, admission, cors, credentials, pages};
use crate::access::Policy;
use crate::audit::Record;
use crate::memory;
use crate::protocol::{ConnId, DEFAULT_SESSION, Grant, SessionId, SessionPattern};

/// Bytes of a connection thread's stack. Pages that are not touched cost no memory.
const STACK: usize = 128 * 1024;
/// After how long a silent peer is probed by the system.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The session, what the client may do, and the response that upgrades to WebSocket.
type Upgrade = (SessionId, Arc<Grant>, http::Response<()>);

/// A connection that was just accepted.
#[derive(Debug)]
pub struct Connection {
    pub conn: ConnId,
    pub stream: TcpStream,
    pub peer: SocketAddr,
    /// All connections that are allowed were open already.
    pub over_limit: bool,
    pub permit: ConnectionPermit,
}

impl Connection {
    /// Starts the connection's thread, or refuses the connection.
    pub fn start(self) {
        let (conn, peer) = (self.conn, self.peer);
        let connection = Arc::new(Mutex::new(Some(self)));
        let for_thread = connection.clone();
        let started = start_thread(conn, peer, move || {
            let connection = for_thread.lock().take();
            if let Some(connection) = connection {
                connection.run();
            }
        });
        if !started && let Some(connection) = connection.lock().take() {
            connection.refuse_at_once();
        }
    }

    /// Refuses a connection for which there is no thread, without waiting for its request.
    fn refuse_at_once(&self) {
        let _ = self.stream.set_nonblocking(true);
        // Closing a socket with unread data resets the connection.
        let _ = (&self.stream).read(&mut [0; 1024]);
        let why = "the server has no thread or memory left for another connection; try again later";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        self.refuse(&Response::refusal(status, "busy", why));
    }

    fn run(self) {
        // If these fail, the connection works too, only less well.
        let _ = self.stream.set_nodelay(true);
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
        let _ = SockRef::from(&self.stream).set_tcp_keepalive(&keepalive);

        let timeout = self.permit.options.handshake_timeout;
        let mut long_head = None;
        let may_be_long = || {
            long_head = LongHead::acquire(self.permit.context());
            long_head.is_some()
        };
        let (request, rest) = match read_head(&self.stream, timeout, may_be_long) {
            Ok(head) => head,
            Err(HeadError::Disconnected) => return,
            Err(HeadError::Refused(status, code, why)) => {
                return self.refuse(&Response::refusal(status, code, &why));
            }
        };
        self.answer(&request, rest);
    }

    fn answer(self, request: &Request<()>, rest: Vec<u8>) {
        let policy = self.permit.access.policy();
        let allowed = &self.permit.options.allowed_origins;
        let reader = cors::reader(request.headers(), policy, allowed);
        match self.upgrade(request) {
            Ok(Some((session, grant, answer))) => {
                let mut bytes = Vec::with_capacity(256);
                // Whole, in one packet, and before the hub can send anything.
                let written = write_response(&mut bytes, &answer)
                    .is_ok_and(|()| (&self.stream).write_all(&bytes).is_ok());
                if written {
                    self.spawn_reader(session, grant, rest);
                }
            }
            Ok(None) => {
                let is_head = request.method() == Method::HEAD;
                if let Some(page) = self.page(request) {
                    cors::allow(page, reader).send(&self.stream, is_head);
                }
            }
            Err(refusal) => self.refuse(&cors::allow(refusal, reader)),
        }
    }

    fn refuse(&self, refusal: &Response) {
        self.permit.audit.record(&Record::Refused {
            client: self.conn,
            from: self.peer,
            status: Some(refusal.status.as_u16()),
            why: refusal.message.as_deref().unwrap_or_default(),
        });
        refusal.send(&self.stream, false);
    }

    /// Returns what a WebSocket begins with; `None` for a plain request. A plain request for the
    /// URL of a WebSocket is refused as that would be.
    fn upgrade(&self, request: &Request<()>) -> Result<Option<Upgrade>, Response> {
        let grant = self.admit(request)?;
        self.check_request(request)?;
        let is_plain = !wants_websocket(request);
        if cors::is_preflight(request) || (is_plain && !pages::asks_for_socket(request)) {
            return Ok(None);
        }
        let session = self.session(request, &grant)?;
        if is_plain {
            return Ok(None);
        }
        let handshake = handshake(request)?;
        Ok(Some((session, grant, handshake)))
    }

    /// Checks that there is room for the connection, and that the method is one that is answered.
    fn check_request(&self, request: &Request<()>) -> Result<(), Response> {
        if self.over_limit {
            let max = self.permit.options.max_connections;
            let why = format!("all {max} connections are in use; close some, or try again later");
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Err(Response::refusal(status, "too_many_connections", &why));
        }
        let is_answered = matches!(*request.method(), Method::GET | Method::HEAD);
        if !is_answered && !cors::is_preflight(request) {
            let why = "only GET and HEAD are answered here; messages go over the WebSocket";
            let status = StatusCode::METHOD_NOT_ALLOWED;
            let refusal = Response::refusal(status, "method_not_allowed", why);
            return Err(refusal.with("Allow", "GET, HEAD, OPTIONS"));
        }
        Ok(())
    }

    /// Returns the session of the request, if the client may be in it.
    fn session(&self, request: &Request<()>, grant: &Grant) -> Result<SessionId, Response> {
        let session = session_of(request, grant, self.permit.options.max_name).map_err(wrong)?;
        if let Some(pattern) = grant.sessions.as_ref().filter(|_| !grant.covers(&session)) {
            let why = format!(
                "this token is for sessions \"{pattern}\" and not for \"{session}\"; name one of those, as ?session=NAME"
            );
            let status = StatusCode::FORBIDDEN;
            return Err(Response::refusal(status, "forbidden_session", &why));
        }
        Ok(session)
    }

    /// Returns what the client may do.
    fn admit(&self, request: &Request<()>) -> Result<Arc<Grant>, Response> {
        let Context {
            access, options, ..
        } = &*self.permit;
        // A browser asks for a page's permission without the page's token.
        let is_public = || {
            cors::is_preflight(request)
                || (!wants_websocket(request) && pages::static_page(request).is_some())
        };
        if access.policy() != Policy::LocalOnly && is_public() {
            return Ok(access.anonymous());
        }
        let peer = self.peer.ip();
        admission::admit(peer, request, access, &options.allowed_origins).map_err(Response::from)
    }

    /// Returns the answer to a plain request; `None` if the server has ended.
    fn page(&self, request: &Request<()>) -> Option<Response> {
        if cors::is_preflight(request) {
            return Some(cors::preflight(request));
        }
        let path = request.uri().path();
        if let Some(file) = pages::static_page(request).or_else(|| pages::not_found(path)) {
            return Some(file);
        }
        let (reply_to, stats) = bounded(1);
        self.permit.events.send(Event::Stats(reply_to));
        // It fails if the hub has ended.
        let stats = stats.recv().ok()?;
        Some(pages::answer(path, self.permit.started, &stats))
    }

    /// Goes on as a WebSocket in a new thread: what the handshake has touched of this thread's
    /// stack and of its allocator's cache would stay with the connection, a third of all the
    /// memory it takes.
    fn spawn_reader(self, session: SessionId, grant: Arc<Grant>, rest: Vec<u8>) {
        // Recorded here, because the next thread keeps every page of stack that it touches.
        self.permit.audit.record(&Record::Connected {
            client: self.conn,
            from: self.peer,
            session: &session,
            grant: &grant,
        });
        let upgraded = Upgraded {
            conn: self.conn,
            stream: self.stream,
            session,
            grant,
            rest,
            permit: self.permit,
        };
        let (conn, peer) = (self.conn, self.peer);
        if let Some((reader, permit)) = reader::begin(upgraded) {
            let outbox = reader.outbox();
            if !start_thread(conn, peer, move || reader::run(reader, permit)) {
                let why = "the server has no thread or memory left for it; try again later";
                outbox.close(CloseCode::Again, why);
            }
        }
    }
}

/// Starts a thread of a connection. Returns `false` if the system has none, or no memory for it.
fn start_thread(conn: ConnId, peer: SocketAddr, run: impl FnOnce() + Send + 'static) -> bool {
    // The standard library ends the process if a new thread gets no memory for its signal stack.
    let started = if memory::has_room(STACK) {
        let thread = thread::Builder::new()
            .name(conn.to_string())
            .stack_size(STACK);
        thread.spawn(run).map(drop)
    } else {
        Err(io::ErrorKind::OutOfMemory.into())
    };
    if let Err(error) = &started {
        warn!("{conn} from {peer} is cut: no thread for it ({error})");
    }
    started.is_ok()
}

/// Returns the response that upgrades to WebSocket.
fn handshake(request: &Request<()>) -> Result<http::Response<()>, Response> {
    let subprotocol = credentials::subprotocol(request.headers()).map_err(wrong)?;
    match create_response(&plain_handshake(request)) {
        Ok(mut handshake) => {
            if let Some(protocol) = subprotocol.map(HeaderValue::from_static) {
                let headers = handshake.headers_mut();
                headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
            }
            Ok(handshake)
        }
        Err(Error::Protocol(ProtocolError::MissingSecWebSocketVersionHeader)) => {
            let why = "only WebSocket version 13 (RFC 6455) is spoken here";
            let status = StatusCode::UPGRADE_REQUIRED;
            let refusal = Response::refusal(status, "upgrade_required", why);
            Err(refusal.with("Sec-WebSocket-Version", "13"))
        }
        Err(error) => Err(wrong(format!("the WebSocket handshake is wrong: {error}"))),
    }
}

/// Returns the refusal of a request that is wrong in itself.
fn wrong(why: impl AsRef<str>) -> Response {
    Response::refusal(StatusCode::BAD_REQUEST, "bad_request", why.as_ref())
}

/// Returns the handshake as tungstenite reads it, which takes no lists.
fn plain_handshake(request: &Request<()>) -> Request<()> {
    let mut plain = Request::new(());
    *plain.method_mut() = request.method().clone();
    *plain.version_mut() = request.version();
    let headers = plain.headers_mut();
    for name in [SEC_WEBSOCKET_VERSION, SEC_WEBSOCKET_KEY] {
        if let Some(value) = request.headers().get(&name) {
            headers.insert(name, value.clone());
        }
    }
    let lists = [(CONNECTION, "upgrade"), (UPGRADE, "websocket")];
    for (name, item) in lists {
        if has_item(request, name.clone(), item) {
            headers.insert(name, HeaderValue::from_static(item));
        }
    }
    plain
}

fn wants_websocket(request: &Request<()>) -> bool {
    has_item(request, UPGRADE, "websocket")
}

/// Returns `true` if a header that is a list has an item, in lower or upper case.
fn has_item(request: &Request<()>, name: HeaderName, item: &str) -> bool {
    list_items(request.headers(), name).any(|other| other.eq_ignore_ascii_case(item))
}

/// Returns the session that the URL names, or else the one that the client is bound to.
fn session_of(request: &Request<()>, grant: &Grant, max: usize) -> Result<SessionId, String> {
    let query = request.uri().query().unwrap_or_default();
    let named = form_urlencoded::parse(query.as_bytes())
        .find(|(key, value)| key == "session" && !value.is_empty())
        .map(|(_, value)| value);
    let bound_to = grant.sessions.as_ref().and_then(SessionPattern::only);
    let name = named.as_deref().or(bound_to).unwrap_or(DEFAULT_SESSION);
    Ok(SessionId::parse("session", name, max)?)
}
