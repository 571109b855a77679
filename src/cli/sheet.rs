//! `status --csv`: a row an account, and one for each that has not enrolled, with contacts: what a
//! reminder is written from. RFC 4180 with LF, as the report's. Pure.

use crate::report::cell;
use crate::status::{AccountStatus, ContactStatus, Status};

const COLUMNS: &str = "address,migration,phase,condition,reason,side,since,next_try,cutover,\
                       sealed_at,source_seen_until,last_copied_at,source,copied,adopted,refused,\
                       altered,in_doubt,verified,source_bytes,copied_bytes,has_secrets,email,phone";

/// The phase of those who have not enrolled.
const MISSING: &str = "missing";

pub fn sheet(status: &Status) -> String {
    let mut text = format!("{COLUMNS}\n");
    for account in &status.accounts {
        text += &row(account);
    }
    for migration in &status.migrations {
        for missing in &migration.missing {
            text += &row(&AccountStatus {
                address: missing.address.clone(),
                migration: migration.name.clone(),
                phase: MISSING.to_owned(),
                cutover: migration.cutover.clone(),
                contact: missing.contact.clone(),
                ..AccountStatus::default()
            });
        }
    }
    text
}

fn row(account: &AccountStatus) -> String {
    let AccountStatus { messages, bytes, reason, .. } = account;
    let reason = reason.clone().unwrap_or_default();
    let ContactStatus { email, phone } = &account.contact;
    let word = |text: &Option<String>| cell(text.as_deref().unwrap_or_default());
    let number = |number: Option<u64>| number.map_or_else(String::new, |n| n.to_string());
    let cells = [
        cell(&account.address),
        cell(&account.migration),
        cell(&account.phase),
        cell(&account.condition),
        cell(&reason.code),
        word(&reason.side),
        cell(&reason.since),
        word(&reason.next_try),
        word(&account.cutover),
        word(&account.sealed_at),
        word(&account.source_seen_until),
        word(&account.last_copied_at),
        number(messages.source),
        number(messages.copied),
        number(messages.adopted),
        number(messages.refused),
        number(messages.altered),
        number(messages.in_doubt),
        number(messages.verified),
        number(bytes.source),
        number(bytes.copied),
        u8::from(account.has_secrets).to_string(),
        word(email),
        word(phone),
    ];
    cells.join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{MessageCounts, MigrationStatus, MissingAccount, Reason};

    #[test]
    fn rows_of_accounts_and_of_the_missing() {
        let contact = ContactStatus {
            email: Some("=cmd()@studio.it".into()),
            phone: Some("+391234567890".into()),
        };
        let account = AccountStatus {
            address: "mario@pec.epap.it".into(),
            migration: "epap".into(),
            phase: "copying".into(),
            condition: "held".into(),
            reason: Some(Reason { code: "over_quota".into(), ..Reason::default() }),
            messages: MessageCounts { source: Some(7), ..MessageCounts::default() },
            contact: contact.clone(),
            ..AccountStatus::default()
        };
        let missing =
            MissingAccount { address: "tardi@pec.epap.it".into(), contact: contact.clone() };
        let migration = MigrationStatus {
            name: "epap".into(),
            missing: vec![missing],
            ..MigrationStatus::default()
        };
        let status =
            Status { accounts: vec![account], migrations: vec![migration], ..Status::default() };
        let text = sheet(&status);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header = reader.headers().unwrap().clone();
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 2);
        let of = |row: usize, name: &str| {
            let column = header.iter().position(|column| column == name).unwrap();
            rows[row][column].to_owned()
        };
        let names = ["address", "phase", "condition", "reason", "source", "copied", "phone"];
        let first =
            ["mario@pec.epap.it", "copying", "held", "over_quota", "7", "", "'+391234567890"];
        assert_eq!(names.map(|name| of(0, name)), first);
        let second = ["tardi@pec.epap.it", "missing", "", "", "", "", "'+391234567890"];
        assert_eq!(names.map(|name| of(1, name)), second);
        assert_eq!(of(1, "email"), "'=cmd()@studio.it", "no formula");
    }
}
