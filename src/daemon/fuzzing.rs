//! What must hold whatever a client writes to a socket.

use super::control::understand;
use super::protocol::Answer;

/// A request is understood or refused in words that are safe to show; what is understood is
/// written as a line that means the same.
pub fn requests(line: &[u8]) {
    match understand(line) {
        Ok(request) => {
            let written = serde_json::to_vec(&request).expect("a request is JSON");
            assert!(!written.contains(&b'\n'), "{request:?}");
            assert_eq!(understand(&written), Ok(request));
        }
        Err(why) => {
            assert!(why.len() < 600 && !why.contains(char::is_control), "{why:?}");
            let answer = Answer::refuse(2, why);
            let written = serde_json::to_vec(&answer).expect("an answer is JSON");
            assert_eq!(serde_json::from_slice::<Answer>(&written).expect("ours"), answer);
        }
    }
}
