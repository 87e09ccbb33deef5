//! The head of an HTTP request, and the admission that follows it.

#![no_main]

use claude_socket::socket::admission;
use claude_socket::socket::http::{HeadError, parse_head};
use claude_socket::socket::origin::AllowedOrigins;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let parsed = parse_head(bytes);
    match &parsed {
        Ok(Some((request, length))) => {
            assert!(*length <= bytes.len());
            // What follows a head doesn't change it.
            let (again, same) = parse_head(&bytes[..*length])
                .expect("it was one")
                .expect("it was whole");
            assert_eq!((again.uri(), same), (request.uri(), *length));
            let here = [127, 0, 0, 1].into();
            let _ = admission::check_local(here, request.headers(), &AllowedOrigins::default());
        }
        // More of it can't unsay what was wrong.
        Err(HeadError::Refused(status, code, why)) => {
            assert!(status.is_client_error() && !code.is_empty() && !why.is_empty());
            let more = [bytes, b"\r\n\r\n"].concat();
            assert!(parse_head(&more).is_err());
        }
        Err(HeadError::Disconnected) => unreachable!("nobody can go here"),
        Ok(None) => {}
    }
});
