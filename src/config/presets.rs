//! What is known about providers: host and well-known folders. A preset applies only where
//! `provider` is named, or where `[target]` is left out.
//!
//! Only what is certain stands here; a provider that is missing is configured by its host.

use super::settings::FolderUse;

#[derive(Debug)]
pub struct Preset {
    pub name: &'static str,
    pub host: &'static str,
    /// Names as users see them, without the namespace prefix: Aruba's `INBOX.Inviata` is
    /// `Inviata`; Legalmail has no prefix, so there the `INBOX/` is part of the name.
    pub well_known: &'static [(FolderUse, &'static str)],
    /// The login is a code of the provider's, not the address.
    pub login_is_a_code: bool,
    /// Passwords have to obey [`super::policy`].
    pub has_policy: bool,
}

/// The target where `[target]` is left out.
pub const LEGALMAIL: Preset = Preset {
    name: "legalmail",
    host: "mbox.cert.legalmail.it",
    well_known: &[
        (FolderUse::Drafts, "INBOX/Draft"),
        (FolderUse::Junk, "INBOX/Posta Indesiderata"),
        (FolderUse::Sent, "INBOX/Spedite"),
        (FolderUse::Trash, "INBOX/Trash"),
    ],
    login_is_a_code: true,
    has_policy: true,
};

const ARUBA: Preset = Preset {
    name: "aruba",
    host: "imaps.pec.aruba.it",
    well_known: &[
        (FolderUse::Drafts, "Bozze"),
        (FolderUse::Junk, "Spam"),
        (FolderUse::Sent, "Inviata"),
        (FolderUse::Trash, "Cestino"),
    ],
    login_is_a_code: false,
    has_policy: false,
};

pub const ALL: &[&Preset] = &[&ARUBA, &LEGALMAIL];

pub fn by_name(name: &str) -> Option<&'static Preset> {
    ALL.iter().copied().find(|preset| preset.name == name)
}

/// `"aruba", "legalmail"`
pub(super) fn names() -> String {
    let names: Vec<String> = ALL.iter().map(|preset| format!("{:?}", preset.name)).collect();
    names.join(", ")
}
