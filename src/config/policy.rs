//! What Legalmail asks of passwords, as the published guides tell its users. Pure.

use zeroize::Zeroizing;

/// A token of the mailbox's name that is shorter may stand in a password.
const TOKEN_LETTERS_MIN: usize = 3;
const LETTERS_MIN: usize = 8;

/// What is asked, in the order of the guides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    Length,
    Lower,
    Upper,
    Digit,
    Special,
    Repeated,
    Name,
}

impl Rule {
    /// What a password lacks that breaks it.
    fn words(self) -> &'static str {
        match self {
            Rule::Length => "fewer than 8 characters",
            Rule::Lower => "no lower-case letter (a-z)",
            Rule::Upper => "no upper-case letter (A-Z)",
            Rule::Digit => "no digit",
            Rule::Special => "no special character (such as ? ! ; @)",
            Rule::Repeated => "more than two equal characters in a row",
            Rule::Name => "a part of the mailbox's name",
        }
    }
}

/// The rules that a password of that (case-folded) address breaks.
pub fn broken(password: &str, address: &str) -> Vec<Rule> {
    let has = |kind: fn(&char) -> bool| password.chars().any(|letter| kind(&letter));
    let folded = Zeroizing::new(password.to_lowercase());
    let in_a_row = password.chars().zip(password.chars().skip(1)).zip(password.chars().skip(2));
    let rules = [
        (Rule::Length, password.chars().count() >= LETTERS_MIN),
        (Rule::Lower, has(char::is_ascii_lowercase)),
        (Rule::Upper, has(char::is_ascii_uppercase)),
        (Rule::Digit, has(char::is_ascii_digit)),
        (Rule::Special, has(char::is_ascii_punctuation)),
        (
            Rule::Repeated,
            !in_a_row.into_iter().any(|((one, two), three)| one == two && two == three),
        ),
        (Rule::Name, !tokens(address).any(|token| folded.contains(&token))),
    ];
    rules.into_iter().filter(|(_, holds)| !holds).map(|(rule, _)| rule).collect()
}

/// Parts of the mailbox's name that may not stand in its password, in lower case.
pub fn tokens(address: &str) -> impl Iterator<Item = String> {
    let local_part = address.split('@').next().unwrap_or_default();
    let tokens = local_part.split(|letter: char| matches!(letter, '.' | '_' | '-' | '0'..='9'));
    tokens.filter(|token| token.chars().count() >= TOKEN_LETTERS_MIN).map(str::to_lowercase)
}

/// [`broken`] in words, which repeat nothing of the password.
pub fn broken_rules(password: &str, address: &str) -> Vec<&'static str> {
    broken(password, address).into_iter().map(Rule::words).collect()
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
