//! Tokens: generates them, keeps their digests, compares these.

use std::fmt;
use std::io;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use crate::protocol::Grant;

/// The prefix of generated tokens, by which a lost one can be recognized.
const PREFIX: &str = "cs_";
/// How many random bytes are in a generated token.
const RANDOM_BYTES: usize = 32;
/// The shortest token in the environment, in characters. 24 random ones, even if they are
/// hexadecimal digits, are 96 bits, which nobody can guess.
const MIN_LENGTH: usize = 24;
/// The longest, in characters, so that it fits into the head of a request.
const MAX_LENGTH: usize = 1_024;

/// Generates a token.
///
/// # Errors
/// If the system has no random bytes.
pub fn generate() -> io::Result<String> {
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random)?;
    Ok(format!("{PREFIX}{}", HEXLOWER.encode(&random)))
}

/// The SHA-256 of a token. Nothing else of a token is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Compares two digests in constant time.
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Returns the id of a grant of this token: the same after a restart, so that the author of a message that waits on disk
    /// is known, and another one if the token allows something else. It has 63 bits, which a database takes as a number, and
    /// is never that of [`Grant::WITHOUT_TOKEN`].
    pub fn grant_id(&self, grant: &Grant) -> u64 {
        let Grant {
            id: _,
            user,
            role,
            sessions,
            rate,
        } = grant;
        let mut hash = Sha256::new_with_prefix(self.0);
        hash.update(role.as_str());
        let parts = [
            user.as_ref().map(ToString::to_string),
            sessions.as_ref().map(ToString::to_string),
            rate.as_ref().map(ToString::to_string),
        ];
        for part in parts {
            // No part has a line feed, and an empty one is one that isn't there.
            hash.update("\n");
            hash.update(part.unwrap_or_default());
        }
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
        let id = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
        id.max(Grant::WITHOUT_TOKEN.id + 1)
    }
}

/// Shows nothing of the digest: it must never be in a log.
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || de::Error::custom("\"sha256\" must be 64 hexadecimal digits");
        let bytes = HEXLOWER.decode(text.as_bytes()).ok();
        let digest = bytes.and_then(|bytes| bytes.try_into().ok());
        digest.map(Self).ok_or_else(wrong)
    }
}

/// The token of the environment. Only its digest is kept.
#[derive(Clone, Debug)]
pub struct EnvToken {
    pub digest: Digest,
}

impl EnvToken {
    /// Parses a token.
    ///
    /// # Errors
    /// [`EnvTokenError`].
    pub fn parse(text: &str) -> Result<Self, EnvTokenError> {
        Self::check(text)?;
        Ok(Self {
            digest: Digest::of(text),
        })
    }

    /// Checks a token. A program that only sends it needs no digest, whose code is 11 KB.
    ///
    /// # Errors
    /// [`EnvTokenError`].
    pub fn check(text: &str) -> Result<(), EnvTokenError> {
        let length = text.chars().count();
        if length < MIN_LENGTH {
            return Err(EnvTokenError::TooShort { length });
        }
        if length > MAX_LENGTH {
            return Err(EnvTokenError::TooLong { length });
        }
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(EnvTokenError::InvalidCharacters);
        }
        Ok(())
    }
}

/// What is wrong with the token of the environment. Its `Display` says what to do, and never
/// repeats the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvTokenError {
    /// It could be guessed.
    TooShort {
        /// Its length, in characters.
        length: usize,
    },
    /// It does not fit into the head of a request.
    TooLong {
        /// Its length, in characters.
        length: usize,
    },
    /// It has characters that a header can't carry.
    InvalidCharacters,
}

impl fmt::Display for EnvTokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { length } => write!(f, "it has {length} characters; ")?,
            Self::TooLong { length } => {
                return write!(
                    f,
                    "it has {length} characters, too many for a request; give it 64"
                );
            }
            Self::InvalidCharacters => {
                f.write_str("it has spaces or characters that cannot travel in a header; ")?;
            }
        }
        write!(
            f,
            "give it at least {MIN_LENGTH} characters, such as what \"openssl rand -hex 32\" prints"
        )
    }
}

impl std::error::Error for EnvTokenError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Rate, Role, SessionPattern};

    #[test]
    fn generated_tokens_are_random_and_url_safe() {
        let tokens =
            [generate(), generate()].map(|token| token.expect("the system has random bytes"));
        assert_ne!(tokens[0], tokens[1]);
        for token in &tokens {
            assert_eq!(token.len(), PREFIX.len() + 2 * RANDOM_BYTES);
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
            assert!(token.chars().all(fits), "{token}");
        }
    }

    #[test]
    fn env_token_shorter_than_24_characters_is_rejected() {
        let cases = [
            ("secret", false),
            ("0123456789abcdef0123456", false),
            ("0123456789abcdef01234567", true),
            ("0123456789abcdef 01234567", false),
            ("0123456789abcdéf01234567", false),
            ("a/b+c=0123456789abcdefgh", true),
            (&"x".repeat(1_024), true),
            (&"x".repeat(1_025), false),
        ];
        for (token, expected) in cases {
            let parsed = EnvToken::parse(token);
            assert_eq!(parsed.is_ok(), expected, "{token}");
            if let Err(error) = parsed {
                let why = error.to_string();
                assert!(!why.contains(token), "{why}");
            }
        }
    }

    /// A release must give the same ids as the one before, or messages that wait on disk are dropped.
    #[test]
    fn grant_id_is_the_same_for_the_same_token_and_permissions() {
        let session = |text| Some(SessionPattern::parse(text).expect("the pattern is valid"));
        let grant = Grant {
            id: 0,
            user: Some("shed".into()),
            role: Role::Sender,
            sessions: session("shed-*"),
            rate: Some(Rate::OF_SENDERS),
        };
        let id = Digest::of("abc").grant_id(&grant);
        assert_eq!(id, 6_819_109_411_153_614_321);
        assert_eq!(
            Digest::of("abc").grant_id(&Grant {
                id: 7,
                ..grant.clone()
            }),
            id
        );
        let others = [
            (Digest::of("abd"), grant.clone()),
            (
                Digest::of("abc"),
                Grant {
                    user: Some("she".into()),
                    ..grant.clone()
                },
            ),
            (
                Digest::of("abc"),
                Grant {
                    user: None,
                    ..grant.clone()
                },
            ),
            (
                Digest::of("abc"),
                Grant {
                    role: Role::Viewer,
                    ..grant.clone()
                },
            ),
            (
                Digest::of("abc"),
                Grant {
                    sessions: session("shed-1"),
                    ..grant.clone()
                },
            ),
            (
                Digest::of("abc"),
                Grant {
                    sessions: None,
                    ..grant.clone()
                },
            ),
            (
                Digest::of("abc"),
                Grant {
                    rate: None,
                    ..grant.clone()
                },
            ),
        ];
        for (digest, other) in others {
            let other_id = digest.grant_id(&other);
            assert!(
                other_id != id && other_id != Grant::WITHOUT_TOKEN.id,
                "{other:?}"
            );
        }
    }

    /// FIPS 180-2, appendix B.1.
    #[test]
    fn digest_is_lowercase_hexadecimal_sha_256() {
        let json = serde_json::to_string(&Digest::of("abc")).expect("a digest serializes");
        assert_eq!(
            json,
            "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\""
        );
        let read: Digest = serde_json::from_str(&json).expect("a digest parses");
        assert!(read.is(&Digest::of("abc")) && !read.is(&Digest::of("abd")));
        for wrong in [
            "\"\"",
            "\"ba78\"",
            "7",
            "\"BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD\"",
        ] {
            assert!(serde_json::from_str::<Digest>(wrong).is_err(), "{wrong}");
        }
    }
}
