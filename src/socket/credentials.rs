//! Credentials: where a request shows its token. It can be in a header, in the address, or among
//! the WebSocket subprotocols that are offered.

use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, Request};

use super::http::list_items;

/// The subprotocol of this server, for clients that name one.
pub const SUBPROTOCOL: &str = "claude-socket";
/// The prefix of a token among the subprotocols: the one place beside the URL where a page's
/// script can put it.
const BEARER: &str = "bearer.";

/// The request shows different tokens: each would be another guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeveralTokens;

/// The token that a request shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownToken {
    pub token: String,
    /// It is in the address alone, where any website can put one.
    pub is_in_address: bool,
}

/// Returns the token that a request shows, in any of these places.
///
/// # Errors
/// [`SeveralTokens`].
pub fn request_token(request: &Request<()>) -> Result<Option<ShownToken>, SeveralTokens> {
    let texts = |name| {
        let values = request.headers().get_all(name).iter();
        values.filter_map(|value| value.to_str().ok())
    };
    let bearers = texts(AUTHORIZATION).filter_map(|value| {
        let (scheme, token) = value.split_once(' ')?;
        // Another scheme is meant for a proxy on the way.
        scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| token.trim().to_owned())
    });
    let query = request.uri().query().unwrap_or_default();
    let queries = form_urlencoded::parse(query.as_bytes())
        .filter(|(key, _)| key == "token")
        // No token has a space; a plus that was not encoded becomes one.
        .map(|(_, token)| token.replace(' ', "+"));
    let protocols = offered_protocols(request.headers())
        .filter_map(|protocol| protocol.strip_prefix(BEARER).map(str::to_owned));
    let mut tokens = bearers
        .chain(protocols)
        .map(|token| (token, false))
        .chain(queries.map(|token| (token, true)))
        .filter(|(token, _)| !token.is_empty());
    let Some((token, is_in_address)) = tokens.next() else {
        return Ok(None);
    };
    if tokens.any(|(other, _)| other != token) {
        return Err(SeveralTokens);
    }
    Ok(Some(ShownToken {
        token,
        is_in_address,
    }))
}

/// Returns the subprotocol to answer a handshake with, if it offers a known one.
///
/// # Errors
/// A sentence, if the only answer would repeat a token. Without an answer, a browser drops the
/// connection and doesn't say why.
pub fn subprotocol(headers: &HeaderMap) -> Result<Option<&'static str>, String> {
    let offers = |wanted: fn(&str) -> bool| offered_protocols(headers).any(wanted);
    if offers(|protocol| protocol == SUBPROTOCOL) {
        return Ok(Some(SUBPROTOCOL));
    }
    if offers(|protocol| protocol.starts_with(BEARER)) {
        return Err(format!(
            "the subprotocol bearer.TOKEN cannot be answered; offer {SUBPROTOCOL} next to it"
        ));
    }
    Ok(None)
}

fn offered_protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    list_items(headers, SEC_WEBSOCKET_PROTOCOL)
}
