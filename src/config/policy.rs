//! What Legalmail asks of passwords, as the published guides tell its users. Pure.

/// A token of the mailbox's name that is shorter may stand in a password.
const TOKEN_LETTERS_MIN: usize = 3;
const LETTERS_MIN: usize = 8;

/// The rules that a password of that (case-folded) address breaks, in words. They repeat nothing of
/// the password.
pub fn broken_rules(password: &str, address: &str) -> Vec<&'static str> {
    let letters: Vec<char> = password.chars().collect();
    let has = |kind: fn(&char) -> bool| letters.iter().any(kind);
    let local_part = address.split('@').next().unwrap_or_default();
    let tokens = local_part.split(|letter: char| matches!(letter, '.' | '_' | '-' | '0'..='9'));
    let folded = password.to_lowercase();
    let names = |token: &str| {
        token.chars().count() >= TOKEN_LETTERS_MIN && folded.contains(&token.to_lowercase())
    };
    let rules = [
        (letters.len() >= LETTERS_MIN, "fewer than 8 characters"),
        (has(char::is_ascii_lowercase), "no lower-case letter (a-z)"),
        (has(char::is_ascii_uppercase), "no upper-case letter (A-Z)"),
        (has(char::is_ascii_digit), "no digit"),
        (has(char::is_ascii_punctuation), "no special character (such as ? ! ; @)"),
        (
            !letters.windows(3).any(|run| run[0] == run[1] && run[1] == run[2]),
            "more than two equal characters in a row",
        ),
        (!tokens.into_iter().any(names), "a part of the mailbox's name"),
    ];
    rules.into_iter().filter(|(holds, _)| !holds).map(|(_, words)| words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guides_ask_of_a_password() {
        #[track_caller]
        fn check(password: &str, address: &str, expected: &[&str]) {
            let broken = broken_rules(password, address);
            assert_eq!(broken.len(), expected.len(), "{broken:?}");
            for (words, part) in broken.iter().zip(expected) {
                assert!(words.contains(part), "{words} {part}");
            }
        }
        let mario = "mario.rossi-80@pec.epap.it";
        check("Cavallo7!", mario, &[]);
        check("Cav7!", mario, &["fewer than 8"]);
        check("CAVALLO7!", mario, &["lower-case"]);
        check("cavallo7!", mario, &["upper-case"]);
        check("Cavallo!!", mario, &["digit"]);
        check("Cavallo77", mario, &["special"]);
        check("àèìòù", mario, &["fewer", "lower", "upper", "digit", "special"]);
        check("Cavallo7!!", mario, &[]);
        check("Cavallo7!!!", mario, &["in a row"]);
        check("Cavallo777!", mario, &["in a row"]);
        check("x7!MARIOx", mario, &["mailbox's name"]);
        check("7!Rossini", mario, &["mailbox's name"]);
        check("Cavallo80!", mario, &[]);
        check("7!Cavalliab", "ab.cd_ef@geopec.it", &[]);
        check("7!Micq8Wxx", "mic80008@pec.istruzione.it", &["mailbox's name"]);
        check("7!Pec.epapQ", "x@pec.epap.it", &[]);
    }
}
