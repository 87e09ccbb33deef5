//! Who is let in, and as what.

use std::time::Duration;

use super::*;
use crate::protocol::Role;

fn with_token(token: &str) -> Access {
    let token = Some(Secret::parse(token).expect(token));
    Access::open(Options { token, file: None })
}

const WEAK: &str = "0123456789abcdef";
const STRONG: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn guessing_is_slowed_down_and_nobody_beside_the_guesser_is() {
    let ip = |ip: &str| Asker {
        peer: ip.parse().expect("an address"),
        is_website: false,
    };
    let (here, there) = (ip("10.0.0.7"), ip("10.0.0.8"));
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let access = with_token(WEAK);
    for _ in 0..10 {
        assert_eq!(access.admit("no", here, start), Err(Denied::Unknown));
    }
    assert_eq!(access.admit("no", here, after(59)), Err(Denied::TooMany));
    assert_eq!(access.admit(WEAK, here, after(59)), Err(Denied::TooMany));
    assert!(access.admit(WEAK, there, after(59)).is_ok());
    assert_eq!(access.admit("no", here, after(60)), Err(Denied::Unknown));
    assert!(access.admit(WEAK, here, after(60)).is_ok());

    let access = with_token(STRONG);
    for _ in 0..20 {
        let _ = access.admit("no", here, start);
    }
    assert_eq!(access.admit("no", here, start), Err(Denied::TooMany));
    assert!(access.admit(STRONG, here, start).is_ok());
}

#[test]
fn a_website_neither_guesses_nor_locks_out() {
    let now = Instant::now();
    let peer = IpAddr::from([127, 0, 0, 1]);
    let [user, website] = [false, true].map(|is_website| Asker { peer, is_website });
    let access = with_token(WEAK);
    for shown in ["no", WEAK].repeat(5) {
        assert_eq!(access.admit(shown, website, now), Err(Denied::Website));
    }
    assert_eq!(access.admit(WEAK, website, now), Err(Denied::TooMany));
    assert!(access.admit(WEAK, user, now).is_ok());
    let access = with_token(STRONG);
    assert!(access.admit(STRONG, website, now).is_ok());
}

#[test]
fn a_grant_holds_as_long_as_its_token_is_the_same() {
    let stored = |name: &str, role| Stored {
        name: name.into(),
        role,
        sessions: None,
        sha256: Digest::of(name),
        created: String::new(),
    };
    let access = Access::open(Options::default());
    let peer = Asker {
        peer: IpAddr::from([127, 0, 0, 1]),
        is_website: false,
    };
    let admit = |token: &str| access.admit(token, peer, Instant::now());
    assert_eq!(access.policy(), Policy::ThisMachine);
    assert!(access.holds(&access.anyone()) && access.has_operator());

    let [ann, shed] = [stored("ann", Role::Viewer), stored("shed", Role::Sender)];
    assert!(access.take(Ok(vec![ann.clone(), shed.clone()]), None));
    assert_eq!(access.policy(), Policy::Token);
    assert!(!access.holds(&access.anyone()) && !access.has_operator());
    let grants = [admit("ann").expect("known"), admit("shed").expect("known")];
    assert!(!access.take(Ok(vec![ann.clone(), shed.clone()]), None));
    assert_eq!([0, 1].map(|i| access.holds(&grants[i])), [true, true]);

    let promoted = stored("ann", Role::Operator);
    assert!(access.take(Ok(vec![shed, promoted]), None));
    assert_eq!([0, 1].map(|i| access.holds(&grants[i])), [false, true]);
    assert!(access.has_operator());

    assert!(access.take(Err("broken".into()), None));
    assert_eq!([0, 1].map(|i| access.holds(&grants[i])), [false, false]);
    assert_eq!(admit("shed"), Err(Denied::Unreadable));
    assert!(!access.holds(&access.anyone()));
}

#[test]
fn names_of_the_servers_own_are_not_given_away() {
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
