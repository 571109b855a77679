//! What servers say in words of their own, understood in one place.

use super::decode::Condition;

/// Is this a request to slow down? Some servers say so only in text, even with BAD.
pub(super) fn is_throttling(condition: &Condition) -> bool {
    let text = condition.text.to_ascii_lowercase();
    let code = condition.code.as_ref().map(|code| code.name.as_str());
    matches!(code, Some("THROTTLED" | "LIMIT"))
        || text.contains("throttled")
        || text.contains("backoff")
}
