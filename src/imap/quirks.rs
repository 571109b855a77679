//! What servers say in words of their own, understood in one place.

use super::Code;

/// Is this a request to slow down? Some servers say so only in text, even with BAD.
pub(super) fn is_throttling(code: Option<&Code>, text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    matches!(code.map(|code| code.name.as_str()), Some("THROTTLED" | "LIMIT"))
        || text.contains("throttled")
        || text.contains("backoff")
}
