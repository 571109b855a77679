//! What cannot be guessed: tokens of sessions and forms.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

const OCTETS: usize = 24;

/// 192 random bits, as text.
pub fn new() -> String {
    let mut octets = [0; OCTETS];
    getrandom::fill(&mut octets).expect("the system gives random octets");
    URL_SAFE_NO_PAD.encode(octets)
}

/// By which a token is looked for and compared: how long that takes says nothing about it.
pub fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}
