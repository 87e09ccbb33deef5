//! Who is admitted, and as what.

use std::time::Duration;

use super::*;
use crate::protocol::{RateLimit, Role};

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
    let at = |seconds| (start + Duration::from_secs(seconds), SystemTime::UNIX_EPOCH);
    let access = with_token(TOKEN);
    for _ in 0..10 {
        assert_eq!(access.admit("no", here, at(0)), Err(TokenError::Unknown));
    }
    assert_eq!(
        access.admit("no", here, at(59)),
        Err(TokenError::TooManyFailures)
    );
    assert!(access.admit(TOKEN, here, at(59)).is_ok());
    assert_eq!(access.admit("no", there, at(59)), Err(TokenError::Unknown));
    assert_eq!(access.admit("no", here, at(60)), Err(TokenError::Unknown));
    assert!(access.admit(TOKEN, here, at(60)).is_ok());
}

#[test]
fn grant_is_valid_while_its_token_is_unchanged() {
    let stored = |name: &str, role| StoredToken {
        name: name.into(),
        role,
        sessions: None,
        rate: None,
        expires: None,
        sha256: Digest::of(name),
        created: String::new(),
    };
    let access = Access::open(Options::default());
    let peer = Guesser::new([127, 0, 0, 1].into(), false);
    let admit = |token: &str| access.admit(token, peer, (Instant::now(), SystemTime::now()));
    assert_eq!(access.policy(), Policy::LocalOnly);
    assert!(access.is_valid(access.anonymous().id) && access.has_operator());

    let [ann, shed] = [stored("ann", Role::Viewer), stored("shed", Role::Sender)];
    assert!(access.update(Ok(vec![ann.clone(), shed.clone()]), None));
    assert_eq!(access.policy(), Policy::Token);
    assert!(!access.is_valid(access.anonymous().id) && !access.has_operator());
    let grants = ["ann", "shed"].map(|token| admit(token).expect("a stored token is admitted"));
    assert!(!access.update(Ok(vec![ann.clone(), shed.clone()]), None));
    let restarted = Access::open(Options::default());
    restarted.update(Ok(vec![shed.clone(), ann.clone()]), None);
    assert_eq!(
        [0, 1].map(|i| restarted.is_valid(grants[i].id)),
        [true, true]
    );
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
fn expired_token_is_known_and_not_valid() {
    let time = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let expires = Expiry::at(time(100));
    let token = |name: &str, expires| StoredToken {
        name: name.into(),
        role: Role::Operator,
        sessions: None,
        rate: None,
        expires,
        sha256: Digest::of(name),
        created: String::new(),
    };
    let access = Access::open(Options::default());
    let peer = Guesser::new([127, 0, 0, 1].into(), false);
    let admit = |name: &str, at| access.admit(name, peer, (Instant::now(), time(at)));
    let both = vec![token("ann", None), token("dev", expires)];
    access.update(Ok(both.clone()), None);
    let grants = ["ann", "dev"].map(|name| admit(name, 99).expect("it is valid").id);
    let valid = || grants.map(|id| access.is_valid(id));
    assert!(!access.refresh(time(99)));
    assert_eq!(valid(), [true, true]);

    // Nobody is let in from then on, whenever the tokens are looked at.
    let expired = TokenError::Expired(expires.expect("the time can be written"));
    assert_eq!(admit("dev", 100), Err(expired));
    assert_eq!(admit("def", 100), Err(TokenError::Unknown));
    assert!(access.refresh(time(100)) && !access.refresh(time(101)));
    assert_eq!(valid(), [true, false]);

    // Another change of the file brings nothing back, but another expiry does.
    access.update(Ok(vec![both[1].clone()]), None);
    assert_eq!(valid(), [false, false]);
    assert!(!access.refresh(time(101)));
    assert_eq!(access.usable_tokens(), Err(NoTokens::Expired));
    assert_eq!(access.policy(), Policy::Token, "expired is not unprotected");
    assert!(!access.is_valid(access.anonymous().id) && !access.has_operator());
    access.update(Ok(vec![token("dev", Expiry::at(time(200)))]), None);
    assert!(access.refresh(time(101)));
    assert_eq!(valid(), [false, true]);
    assert!(access.has_operator() && admit("dev", 101).is_ok());
    // The clock was wrong.
    assert!(access.refresh(time(300)) && !access.is_valid(grants[1]));
    assert!(access.refresh(time(150)) && access.is_valid(grants[1]));
}

#[test]
fn senders_have_a_rate_unless_told_otherwise() {
    let rate = |role, rate| {
        let token = StoredToken {
            name: "dev".into(),
            role,
            sessions: None,
            rate,
            expires: None,
            sha256: Digest::of("dev"),
            created: String::new(),
        };
        token.rate().map(|rate| rate.to_string())
    };
    let limit = |text| Some(RateLimit::parse(text).expect("the rate is valid"));
    assert_eq!(rate(Role::Sender, None).as_deref(), Some("60/m"));
    assert_eq!(rate(Role::Sender, limit("5/h")).as_deref(), Some("5/h"));
    assert_eq!(rate(Role::Sender, limit("none")), None);
    assert_eq!(rate(Role::Operator, None), None);
    assert_eq!(rate(Role::Operator, limit("5/h")).as_deref(), Some("5/h"));
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
