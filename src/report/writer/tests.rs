use super::*;
use crate::report::{Account, Depth, Folder, Message, Place, State, Totals};

/// An account with names that mean harm.
fn rows() -> Vec<Row> {
    let folder = |name: &str, copied, refused| Folder {
        name: name.to_owned(),
        target: name.to_owned(),
        totals: Totals {
            copied,
            refused,
            source: copied + refused,
            bytes: 10,
            ..Totals::default()
        },
    };
    let account = Account {
        address: "mario@pec.it".to_owned(),
        migration: "<epap>".to_owned(),
        phase: "completed".to_owned(),
        source: Place { host: "old.example".to_owned(), user: "mario@pec.it".to_owned() },
        target: Place { host: "new.example".to_owned(), user: "M\"1".to_owned() },
        completed_at: Some("2026-02-04T07:00:00Z".to_owned()),
        totals: Totals { copied: 1, refused: 1, source: 2, bytes: 10, ..Totals::default() },
        folders: vec![folder("<script>alert(1)</script>", 1, 0), folder("=cmd,\"x\"", 0, 1)],
        digest: "d1".repeat(32),
        ..Account::default()
    };
    let copied = Message {
        folder: 0,
        source_uid: 3,
        target_uid: Some(4),
        size: Some(10),
        sha256: Some("ab".repeat(32)),
        instant: Some("2025-02-04T06:59:59Z".to_owned()),
        state: State::Copied,
        proof: Some(Depth::ReadBack),
        refused_by: None,
        reason: None,
    };
    let refused = Message {
        folder: 1,
        source_uid: 5,
        target_uid: None,
        size: None,
        sha256: None,
        instant: None,
        state: State::Refused,
        proof: None,
        refused_by: Some("target".to_owned()),
        reason: Some("<b>too big</b>".to_owned()),
    };
    vec![
        Row::Account(account.into()),
        Row::Exception(refused.clone()),
        Row::Folder(0),
        Row::Message(copied),
        Row::Folder(1),
        Row::Message(refused),
        Row::End { changed: false },
    ]
}

fn written(format: Format, lang: Lang, accounts: usize) -> String {
    let mut writer = Writer::begin(Vec::new(), format, lang).unwrap();
    for _ in 0..accounts {
        rows().into_iter().for_each(|row| writer.take(row).unwrap());
    }
    String::from_utf8(writer.end().unwrap()).unwrap()
}

#[test]
fn json_is_one_document_however_many_accounts() {
    for accounts in 0..3 {
        let text = written(Format::Json, Lang::It, accounts);
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["schema"], 1);
        assert_eq!(document["accounts"].as_array().unwrap().len(), accounts);
        let Some(account) = document["accounts"].get(0) else { continue };
        assert_eq!(account["digest"]["value"], "d1".repeat(32));
        assert_eq!(account["totals"]["refused"], 1);
        assert_eq!(account["folders"][0]["messages"][0]["proof"], "read_back");
        assert_eq!(account["folders"][1]["name"], "=cmd,\"x\"");
        assert_eq!(account["folders"][1]["messages"][0]["state"], "refused");
        assert_eq!(account["changed_while_written"], false);
    }
}

#[test]
fn csv_has_a_line_a_message_and_one_for_the_digest() {
    let text = written(Format::Csv, Lang::It, 1);
    let lines: Vec<&str> = text.lines().skip(1).collect();
    let [copied, refused, digest] = lines[..] else { panic!("{text}") };
    let (sha256, total) = ("ab".repeat(32), "d1".repeat(32));
    let script = "\"<script>alert(1)</script>\"";
    let expected = format!(
        "{sha256},10,2025-02-04T06:59:59Z,{script},{script},3,4,copied,read_back,\"\",\
         \"mario@pec.it\""
    );
    assert_eq!(copied, expected);
    let formula = "\"'=cmd,\"\"x\"\"\"";
    let expected = format!(
        "-,-,-,{formula},{formula},5,,refused,,\"target: <b>too big</b>\",\"mario@pec.it\""
    );
    assert_eq!(refused, expected);
    assert_eq!(digest, format!("{total},10,,\"\",\"\",,,digest,,\"\",\"mario@pec.it\""));
}

#[test]
fn html_runs_nothing_and_closes_what_it_opens() {
    for lang in [Lang::It, Lang::En] {
        let page = written(Format::Html, lang, 2);
        assert!(page.contains("content=\"default-src 'none'; style-src 'sha256-"), "{page}");
        assert!(!page.contains("<script") && !page.contains("<b>too big"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
        for tag in ["table", "details", "summary", "tr", "td", "th", "p", "h2", "body", "html"] {
            let opened = page.matches(&format!("<{tag}>")).count()
                + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}: {page}");
        }
    }
}

#[test]
fn the_reader_is_spoken_to_in_italian_or_in_english() {
    for format in [Format::Text, Format::Html] {
        let (italian, english) = (written(format, Lang::It, 1), written(format, Lang::En, 1));
        assert!(italian.contains("Nuovo gestore") && italian.contains("rifiutato"), "{italian}");
        assert!(italian.contains("04/02/2026, 08:00:00 (CET)"), "{italian}");
        assert!(english.contains("New provider") && english.contains("refused"), "{english}");
        assert!(english.contains("2026-02-04 07:00:00 UTC"), "{english}");
        for report in [italian, english] {
            assert!(report.contains(&"d1".repeat(32)) && report.contains(&"ab".repeat(32)));
        }
    }
}
