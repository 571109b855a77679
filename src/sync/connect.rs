//! From an enrollment to a session: which login on which side, within the host's budget.

use std::time::Duration;

use super::backoff;
use super::copy::{Failure, HostSays};
use super::hosts::Place;
use super::shared::{Berth, Shared};
use super::trouble::{self, Remedy, Trouble};
use crate::checkpoint::{self, Refused};
use crate::config::{self, Enrollment, ServiceStyle};
use crate::imap::{Endpoint, Error, Login, Session, Tls};
use crate::journal::{Entry, Event, shown};
use crate::words::Side;

/// Opens a session on one side, within the host's budget.
pub async fn connect(
    shared: &Shared,
    enrollment: &Enrollment,
    side: Side,
) -> Result<(Session, Berth), Failure> {
    let place = login_place(shared, enrollment, side).await;
    connect_at(shared, enrollment, side, place).await
}

/// Opens a session at the target that can only append: see [`Session::introduce`].
pub async fn connect_to_append(
    shared: &Shared,
    enrollment: &Enrollment,
) -> Result<(Session, Berth), Failure> {
    let place = login_place(shared, enrollment, Side::Target).await;
    open(shared, enrollment, Side::Target, place, false).await
}

async fn login_place(shared: &Shared, enrollment: &Enrollment, side: Side) -> Place {
    let host = shared.hosts.host(&endpoint(enrollment, side).host);
    let urgent = enrollment
        .cutover
        .is_some_and(|cutover| (cutover.as_second() - shared.clock.now()).abs() < 600);
    host.login(urgent).await
}

/// Opens a session from the place it will have at its host.
pub async fn connect_at(
    shared: &Shared,
    enrollment: &Enrollment,
    side: Side,
    place: Place,
) -> Result<(Session, Berth), Failure> {
    open(shared, enrollment, side, place, true).await
}

async fn open(
    shared: &Shared,
    enrollment: &Enrollment,
    side: Side,
    place: Place,
    introduces: bool,
) -> Result<(Session, Berth), Failure> {
    let endpoint = endpoint(enrollment, side);
    let service = (enrollment.migration.name.clone(), side);
    let refused = |shared: &Shared| {
        shared.refused_services.lock().expect("no panic while held").contains(&service)
    };
    let host = shared.hosts.host(&endpoint.host);
    // A refusal at an archive is its account's own.
    if service_login(enrollment, side).is_some() && !enrollment.is_archive && refused(shared) {
        let text = "the migration's service login was refused before".to_owned();
        let error = Error::No { command: "LOGIN", code: None, text };
        return Err(Failure::Connect(side, error, HostSays::Nothing));
    }
    let login = login(enrollment, side);
    let opened = match introduces {
        true => shared.dialler.connect(&endpoint, &login).await,
        false => shared.dialler.connect_bare(&endpoint, &login).await,
    };
    match opened {
        Ok(session) => {
            host.worked();
            Ok((session, Berth::new(shared, side, place)))
        }
        Err(error) => {
            // Told while the place is held: during an outage it is the probe others wait for.
            let trouble = trouble::connecting(side, &error);
            let says = match trouble.remedy {
                Remedy::Host => HostSays::Wait(host.failed(&trouble.message)),
                Remedy::Throttle(hint) => HostSays::Wait(host.throttled(hint)),
                Remedy::Credentials if service_login(enrollment, side).is_none() => {
                    HostSays::Refused(host.refused(&enrollment.address))
                }
                _ => HostSays::Nothing,
            };
            drop(place);
            Err(Failure::Connect(side, error, says))
        }
    }
}

pub fn endpoint(enrollment: &Enrollment, side: Side) -> Endpoint {
    let endpoint = match side {
        Side::Source => &enrollment.migration.source,
        Side::Target => &enrollment.migration.target,
    };
    Endpoint {
        host: endpoint.host.clone(),
        port: endpoint.port,
        tls: match endpoint.tls {
            config::Tls::Implicit => Tls::Implicit,
            config::Tls::StartTls => Tls::StartTls,
            config::Tls::None => Tls::None,
        },
        ca_file: endpoint.ca_file.clone(),
    }
}

/// The first account that meets it tells; the others only wait with it.
pub fn tell_service_refused(shared: &Shared, enrollment: &Enrollment, side: Side, words: &str) {
    let key = (enrollment.migration.name.clone(), side);
    if shared.refused_services.lock().expect("no panic while held").insert(key) {
        let entry = Entry::new(Event::ServiceLoginRefused, format!("{side}: {words}"));
        let entry = entry.migration(&enrollment.migration.name);
        shared.journal.emit(entry.reason("service_login_rejected"));
    }
}

/// What is remembered of credentials that were refused.
pub fn refused(enrollment: &Enrollment, side: Side, trouble: &Trouble, since: i64) -> Refused {
    Refused {
        digest: credentials_digest(enrollment, side),
        at_target: side == Side::Target,
        since,
        text: format!("{}: {}", trouble.code, shown(&trouble.message)),
    }
}

/// Where the account lives on that side.
pub fn place(enrollment: &Enrollment, side: Side) -> checkpoint::Place {
    let (endpoint, user) = match side {
        Side::Source => (&enrollment.migration.source, &enrollment.source_user),
        Side::Target => (&enrollment.migration.target, &enrollment.target_user),
    };
    checkpoint::Place { host: endpoint.host.clone(), user: user.clone() }
}

/// The service login that stands in for the account's own on that side.
pub fn service_login(enrollment: &Enrollment, side: Side) -> Option<&config::ServiceLogin> {
    match side {
        Side::Source if enrollment.source_password.is_none() => {
            enrollment.migration.source.service_login.as_ref()
        }
        Side::Target if enrollment.target_password.is_none() => {
            enrollment.migration.target.service_login.as_ref()
        }
        _ => None,
    }
}

fn login(enrollment: &Enrollment, side: Side) -> Login {
    let (user, password) = match side {
        Side::Source => (&enrollment.source_user, &enrollment.source_password),
        Side::Target => (&enrollment.target_user, &enrollment.target_password),
    };
    match (service_login(enrollment, side), password) {
        (Some(service), _) => match &service.style {
            ServiceStyle::Authzid => Login {
                user: service.user.clone(),
                password: service.password.clone(),
                authzid: Some(user.clone()),
            },
            ServiceStyle::Master { separator } => Login {
                user: format!("{user}{separator}{}", service.user),
                password: service.password.clone(),
                authzid: None,
            },
        },
        (None, password) => Login {
            user: user.clone(),
            // Configuration has seen to it that there is one.
            password: password.clone().unwrap_or_else(|| String::new().into()),
            authzid: None,
        },
    }
}

fn digest_of(login: &Login) -> [u8; 16] {
    use secrecy::ExposeSecret;
    use sha2::Digest;
    let mut hasher = sha2::Sha256::new();
    hasher.update(b"pecsync credentials\0");
    for part in [&login.user, login.authzid.as_deref().unwrap_or("")] {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    hasher.update(login.password.expose_secret().as_bytes());
    let whole: [u8; 32] = hasher.finalize().into();
    whole[..16].try_into().expect("16 of 32 octets")
}

/// Both sides' credentials, as they were when a session stood.
pub fn worked_digest(enrollment: &Enrollment) -> [u8; 16] {
    let source = digest_of(&login(enrollment, Side::Source));
    let target = digest_of(&login(enrollment, Side::Target));
    std::array::from_fn(|at| source[at] ^ target[at].rotate_left(1))
}

/// Tells one side's credentials from others without keeping them; those of an archive from the
/// same ones used at the source.
pub fn credentials_digest(enrollment: &Enrollment, side: Side) -> [u8; 16] {
    let digest = digest_of(&login(enrollment, side));
    match enrollment.is_archive && side == Side::Source {
        true => digest.map(|octet| !octet),
        false => digest,
    }
}

/// The wait after so many failures in a row, spread.
pub fn jittered(shared: &Shared, attempts: u32) -> Duration {
    backoff::delay(attempts, None, false, shared.chance.next())
}
