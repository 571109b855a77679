//! An IDLE connection of its own on one folder: a hint that something happened there.
//!
//! INBOX is watched so during a first copy, when the account's main connection is busy; the other
//! folders that `idle` names are watched so all the time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connect::{connect, jittered};
use super::copy::Failure;
use super::pass::at_source;
use super::shared::Shared;
use super::trouble::{self, Remedy};
use crate::config::Enrollment;
use crate::imap::{IdleNews, Session, WireName};
use crate::words::Side;

/// IDLE is renewed this often.
const IDLE_AT_MOST: Duration = Duration::from_secs(240);
/// So many connections that end before that, one after the other, and nobody watches any more.
const CUTS_MAX: u32 = 3;

/// Watches for ever, connecting again after each failure, unless the server will not let anybody
/// idle; `tell` is called at each news. The sweep finds what this misses, so no failure here is
/// anybody's trouble.
pub async fn watch(
    shared: Arc<Shared>,
    enrollment: Arc<Enrollment>,
    folder: WireName,
    tell: impl Fn(),
) {
    let mut attempts = 1;
    let mut connected_before = false;
    let mut cuts = 0;
    while cuts < CUTS_MAX {
        let connected = connect(&shared, &enrollment, Side::Source).await;
        if connected.as_ref().is_err_and(is_final) {
            // A refused password is not tried again and again by a mere helper.
            return;
        }
        if let Ok((mut session, _place)) = connected {
            if !session.capabilities().has("IDLE") {
                return;
            }
            attempts = 1;
            if std::mem::replace(&mut connected_before, true) {
                // Something may have come while nobody watched.
                tell();
            }
            // Whatever ends it, a new connection begins anew.
            let begun = Instant::now();
            let _ = idle(&mut session, &folder, &tell).await;
            cuts = if begun.elapsed() < IDLE_AT_MOST { cuts + 1 } else { 0 };
        }
        attempts += 1;
        tokio::time::sleep(jittered(&shared, attempts)).await;
    }
}

async fn idle(session: &mut Session, folder: &WireName, tell: &impl Fn()) -> Result<(), Failure> {
    session.examine(folder).await.map_err(at_source)?;
    loop {
        session.idle_start().await.map_err(at_source)?;
        let news = session.idle_wait(IDLE_AT_MOST).await.map_err(at_source)?;
        session.idle_done();
        session.noop().await.map_err(at_source)?;
        let said = session.take_news();
        if news == IdleNews::Something && said.exists.is_some() {
            tell();
        }
    }
}

fn is_final(failure: &Failure) -> bool {
    let remedy = trouble::trouble(failure).remedy;
    matches!(remedy, Remedy::Credentials | Remedy::Operator | Remedy::Throttle(_))
}
