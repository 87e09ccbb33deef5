//! Who is admitted, and as what.

use std::time::Duration;

use super::*;
use crate::protocol::Role;

fn with_token(token: &str) -> Access {
    let token = Some(EnvToken::parse(token).expect("the token is valid"));
    Access::open(Options { token, file: None })
}

const TOKEN: &str = "0123456789abcdef01234567";

#[test]
fn wrong_tokens_are_limited_per_address_and_valid_ones_never() {
    let ip = |ip: &str| Guesser::new(ip.parse().expect("the address parses"), false);
    let (here, there) = (ip("10.0.0.7"), ip("10.0.0.8"));
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let access = with_token(TOKEN);
    for _ in 0..10 {
        assert_eq!(access.admit("no", here, start), Err(TokenError::Unknown));
    }
    assert_eq!(
        access.admit("no", here, after(59)),
        Err(TokenError::TooManyFailures)
    );
    assert!(access.admit(TOKEN, here, after(59)).is_ok());
    assert_eq!(
        access.admit("no", there, after(59)),
        Err(TokenError::Unknown)
    );
    assert_eq!(
        access.admit("no", here, after(60)),
        Err(TokenError::Unknown)
    );
    assert!(access.admit(TOKEN, here, after(60)).is_ok());
}

#[test]
fn grant_is_valid_while_its_token_is_unchanged() {
    let stored = |name: &str, role| StoredToken {
        name: name.into(),
        role,
        sessions: None,
        sha256: Digest::of(name),
        created: String::new(),
    };
    let access = Access::open(Options::default());
    let peer = Guesser::new([127, 0, 0, 1].into(), false);
    let admit = |token: &str| access.admit(token, peer, Instant::now());
    assert_eq!(access.policy(), Policy::LocalOnly);
    assert!(access.is_valid(access.anonymous().id) && access.has_operator());

    let [ann, shed] = [stored("ann", Role::Viewer), stored("shed", Role::Sender)];
    assert!(access.update(Ok(vec![ann.clone(), shed.clone()]), None));
    assert_eq!(access.policy(), Policy::Token);
    assert!(!access.is_valid(access.anonymous().id) && !access.has_operator());
    let grants = ["ann", "shed"].map(|token| admit(token).expect("a stored token is admitted"));
    assert!(!access.update(Ok(vec![ann.clone(), shed.clone()]), None));
    assert_eq!([0, 1].map(|i| access.is_valid(grants[i].id)), [true, true]);

    let promoted = stored("ann", Role::Operator);
    assert!(access.update(Ok(vec![shed, promoted]), None));
    assert_eq!([0, 1].map(|i| access.is_valid(grants[i].id)), [false, true]);
    assert!(access.has_operator());

    assert!(access.update(Err("broken".into()), None));
    assert_eq!(
        [0, 1].map(|i| access.is_valid(grants[i].id)),
        [false, false]
    );
    assert_eq!(admit("shed"), Err(TokenError::FileUnusable));
    assert!(!access.is_valid(access.anonymous().id));
}

#[test]
fn reserved_names_are_rejected() {
    for name in ["ann", "shed 7", "Ünïté", "a\"b"] {
        assert_eq!(check_name(name), Ok(()), "{name}");
    }
    let long = "x".repeat(129);
    for name in [
        "", " ann", "ann ", "a\nb", "operator", "terminal", "expired", &long,
    ] {
        assert!(check_name(name).is_err(), "{name}");
    }
}
