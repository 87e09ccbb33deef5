//! Cross-origin resource sharing (the Fetch Standard, "CORS protocol"): pages may read the answers
//! exactly if a WebSocket of theirs may be admitted, refusals too. Without a token those are the
//! pages whose origin is admitted. With tokens the origin doesn't matter: no browser sends a
//! token by itself, so only a page that was given one is told more than that it needs one.

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{HeaderMap, Method, Request, StatusCode};

use super::http::Response;
use super::origin::{AllowedOrigins, Origin};
use crate::access::Policy;

/// Returns the `Origin` of a request, if its page may read the answer.
pub fn reader(headers: &HeaderMap, policy: Policy, allowed: &AllowedOrigins) -> Option<String> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let origin = origins.next()?.to_str().ok()?;
    let admits = || Origin::parse(origin).is_some_and(|origin| allowed.admits(&origin));
    (origins.next().is_none() && (policy != Policy::LocalOnly || admits()))
        .then(|| origin.to_owned())
}

/// Returns `true` if a browser asks whether a page may send the request that it wants to send.
pub fn is_preflight(request: &Request<()>) -> bool {
    let headers = request.headers();
    request.method() == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Returns the answer to a preflight that was admitted. A page of the open network may also reach this
/// machine then, if the browser asks for that (Private Network Access).
pub fn preflight(request: &Request<()>) -> Response {
    let response = Response::empty(StatusCode::NO_CONTENT)
        .with("Access-Control-Allow-Methods", "GET, HEAD")
        .with("Access-Control-Allow-Headers", "Authorization");
    let headers = request.headers();
    if headers.contains_key("access-control-request-private-network") {
        return response.with("Access-Control-Allow-Private-Network", "true");
    }
    response
}

/// Lets the pages of an origin read a response.
pub fn allow(response: Response, reader: Option<String>) -> Response {
    match reader {
        Some(origin) => response
            .with("Access-Control-Allow-Origin", origin)
            .with("Access-Control-Expose-Headers", "Retry-After"),
        None => response,
    }
}
