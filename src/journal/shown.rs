//! Words of others, made safe to show: in the journal, in `status`, on a terminal.

/// What servers and users wrote is cut here, in octets of the escaped text.
const SHOWN_MAX: usize = 512;

/// `words` without anything that a terminal, a log or a reader's eye would obey: C0, C1, DEL,
/// U+2028, U+2029 and the bidirectional controls are escaped, and the result is at most 512
/// octets long. Showing what was shown changes nothing.
pub fn shown(words: &str) -> String {
    shown_within(words, SHOWN_MAX)
}

/// [`shown`] for octets from the wire, which need not be UTF-8.
pub fn shown_octets(octets: &[u8]) -> String {
    // Decoding what will be cut away anyway would let a long line cost memory.
    shown(&String::from_utf8_lossy(&octets[..octets.len().min(SHOWN_MAX + 4)]))
}

/// JSON that says the same, with nothing in it that a terminal or a reader's eye would obey: what
/// [`shown`] escapes and JSON need not is written as JSON's own escapes.
pub fn shown_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for letter in json.chars() {
        // Line breaks between values stay; within strings JSON has escaped all of C0.
        if letter < '\x7f' || !is_obeyed(letter) {
            safe.push(letter);
        } else {
            safe.push_str(&format!("\\u{:04x}", u32::from(letter)));
        }
    }
    safe
}

pub(super) fn shown_within(words: &str, octets_max: usize) -> String {
    const CUT: char = '…';
    let mut safe = String::with_capacity(words.len().min(octets_max));
    // Where the text ends if the cut mark must follow it.
    let mut room_for_cut = 0;
    for letter in words.chars() {
        push_safe(&mut safe, letter);
        if safe.len() > octets_max {
            safe.truncate(room_for_cut);
            safe.push(CUT);
            return safe;
        }
        if safe.len() + CUT.len_utf8() <= octets_max {
            room_for_cut = safe.len();
        }
    }
    safe
}

fn push_safe(safe: &mut String, letter: char) {
    match letter {
        '\n' => safe.push_str("\\n"),
        '\r' => safe.push_str("\\r"),
        '\t' => safe.push_str("\\t"),
        '\0'..='\x1f' | '\x7f'..='\u{9f}' => {
            safe.push_str(&format!("\\x{:02x}", u32::from(letter)));
        }
        _ if is_obeyed(letter) => safe.push_str(&format!("\\u{:04x}", u32::from(letter))),
        _ => safe.push(letter),
    }
}

/// C0, DEL, C1, line and paragraph separators; ALM, LRM, RLM, the embeddings and overrides, the
/// isolates.
fn is_obeyed(letter: char) -> bool {
    matches!(
        letter,
        '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_says_the_same_and_obeys_nothing() {
        let words = "a\u{202e}b\u{1b}[2J\u{9b}c\u{7f}\u{2028}";
        let json = serde_json::to_string(words).unwrap();
        let safe = shown_json(&json);
        assert_eq!(safe, r#""a\u202eb\u001b[2J\u009bc\u007f\u2028""#);
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), words);
    }

    #[test]
    fn controls_are_escaped() {
        let cases = [
            ("mario.rossi@pec.epap.it", "mario.rossi@pec.epap.it"),
            ("però €", "però €"),
            ("a\r\nb\tc", "a\\r\\nb\\tc"),
            ("\u{1b}]0;x\u{7}", "\\x1b]0;x\\x07"),
            ("\u{7f}\u{80}\u{9b}", "\\x7f\\x80\\x9b"),
            ("\u{2028}\u{2029}\u{202e}\u{2066}\u{61c}", "\\u2028\\u2029\\u202e\\u2066\\u061c"),
        ];
        for (raw, expected) in cases {
            assert_eq!(shown(raw), expected);
            assert_eq!(shown(expected), expected, "showing twice changes nothing");
        }
    }

    #[test]
    fn the_cut_falls_between_letters_and_is_said() {
        for raw in ["x".repeat(600), "è".repeat(400), "\0".repeat(400)] {
            let cut = shown(&raw);
            assert!(cut.len() <= 512 && cut.len() > 500 && cut.ends_with('…'), "{cut}");
            assert_eq!(shown(&cut), cut);
        }
        assert_eq!(shown(&"x".repeat(512)), "x".repeat(512));
    }

    #[test]
    fn octets_need_not_be_text() {
        assert_eq!(shown_octets(b"caf\xe9 \x1b"), "caf\u{fffd} \\x1b");
        assert!(shown_octets(&vec![b'x'; 100_000]).len() <= 512);
    }
}
