//! What each page does. A step is left only forward; whoever goes back, or opens a second tab, is
//! shown where they are.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use maud::Markup;
use pecsync::config::portal::{NewPassword, file_name};
use pecsync::config::sealing::{self, Login};
use pecsync::config::{Contact, Migration, Settings, address_of, phone_of, policy};
use pecsync::daemon::protocol::{Request as Order, StatusOf, ask, status_socket};
use pecsync::status::AccountStatus;
use secrecy::{ExposeSecret, SecretString};
use tokio::task::spawn_blocking;

use crate::enrolled::{Rest, Time};
use crate::exchange::{Asked, Reply};
use crate::limits::network;
use crate::pages::{Frame, State, nowhere};
use crate::server::{App, log};
use crate::session::{ByAdministrator, Step, Visit};
use crate::trial::{Failed, try_once};
use crate::words::{Lang, Wrong};
use crate::{enrolled, token};

/// So often a password is asked for before the captcha is, again.
const FAILURES_MAX: u8 = 3;
const STATUS_WITHIN: Duration = Duration::from_secs(5);

/// The first page, and its form.
pub async fn start(app: &App, asked: &Asked) -> Reply {
    let Some(ui) = asked.query("ui") else { return Reply::not_found(nowhere(asked.lang)) };
    let Some(frame) = Frame::of(&app.settings, &ui, asked.lang) else {
        return Reply::not_found(nowhere(asked.lang));
    };
    let window = Window::of(frame.migration, asked.now);
    let closed = window.say(frame.migration, asked.lang);
    match (window, &closed) {
        (Window::NotYet, Some(words)) => {
            return Reply::page(frame.told(closed_heading(asked.lang), words));
        }
        (Window::Over, Some(words)) => {
            return Reply::page(frame.over(closed_heading(asked.lang), words));
        }
        _ => {}
    }
    let page = |mailbox: &str, wrong| {
        let challenge = app.captcha.challenge(asked.now);
        frame.address(mailbox, &challenge, closed.as_deref(), wrong)
    };
    let Some(form) = &asked.form else { return Reply::page(page("", None)) };
    let mailbox = form.get("mailbox").trim();
    if let Err(refused) = app.arrivals.may_begin(asked.client) {
        app.count("too_often");
        return Reply::wrong(page(mailbox, Some(Wrong::Refused(refused))));
    }
    if !app.captcha.takes(form.get("solution"), asked.now) {
        app.count("robot");
        return Reply::wrong(page(mailbox, Some(Wrong::Robot)));
    }
    match address(mailbox, form.get("domain"), &frame.migration.domains) {
        None => Reply::wrong(page(mailbox, Some(Wrong::Address))),
        Some(address) => {
            let visit = Visit::new(&ui, address, network(asked.client), asked.moment);
            let session = app.visits.begin(visit, asked.moment);
            Reply::go("password").with_session(session)
        }
    }
}

/// The local part with the domain chosen, or a whole address of one of them.
fn address(mailbox: &str, domain: &str, domains: &[String]) -> Option<String> {
    let domain = domains.iter().find(|it| *it == domain).or(domains.first())?;
    let whole = match mailbox.contains('@') {
        true => mailbox.to_owned(),
        false => format!("{mailbox}@{domain}"),
    };
    let address = address_of(&whole).ok()?;
    let (_, domain) = address.rsplit_once('@')?;
    domains.iter().any(|it| it == domain).then(|| address.clone())
}

/// When enrollments are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Window {
    NotYet,
    Open,
    /// Who has enrolled may come back.
    Ended,
    /// Nothing is read from the source any more, but the state can be seen.
    Over,
}

impl Window {
    fn of(migration: &Migration, now: Timestamp) -> Window {
        match migration {
            it if it.enroll_from.is_some_and(|from| now < from) => Window::NotYet,
            it if it.source_until.is_some_and(|until| now > until) => Window::Over,
            it if it.enroll_until.is_some_and(|until| now > until) => Window::Ended,
            _ => Window::Open,
        }
    }

    fn say(self, migration: &Migration, lang: Lang) -> Option<String> {
        let at = |instant: Option<Timestamp>| {
            instant.map(|it| lang.instant(it, &migration.timezone)).unwrap_or_default()
        };
        match self {
            Window::Open => None,
            Window::NotYet => {
                let begins = lang.say("Il link sarà attivo dal", "This link will work from");
                let ends = match migration.enroll_until {
                    None => String::new(),
                    until => format!(" {} {}", lang.say("al", "to"), at(until)),
                };
                Some(format!("{begins} {}{ends}.", at(migration.enroll_from)))
            }
            Window::Ended => Some(format!(
                "{} {}. {}",
                lang.say("Le adesioni si sono chiuse il", "Enrolling ended on"),
                at(migration.enroll_until),
                lang.say(
                    "Chi ha già aderito può accedere per reinserire la password o vedere lo stato.",
                    "Who has enrolled can enter the password again, or see the state.",
                )
            )),
            Window::Over => {
                Some(lang.say("La migrazione si è conclusa.", "The migration is over.").to_owned())
            }
        }
    }
}

/// Told to who may have proved a password, but is not enrolled.
fn ended(frame: &Frame<'_>, asked: &Asked) -> Reply {
    let words = Window::Ended.say(frame.migration, asked.lang).unwrap_or_default();
    Reply::page(frame.told(closed_heading(asked.lang), &words))
}

fn closed_heading(lang: Lang) -> &'static str {
    lang.say("Procedura non attiva", "Closed")
}

/// A step of somebody who has begun; `wanted` is the one whose page or form was asked for.
pub async fn step(app: &Arc<App>, asked: &Asked, wanted: Step) -> Reply {
    let visit = asked.session.as_deref().and_then(|session| app.visits.get(session, asked.moment));
    let Some((session, mut visit)) = asked.session.as_deref().zip(visit) else {
        return Reply::page(expired(app, asked, None));
    };
    let ui = visit.migration.clone();
    let Some(frame) = Frame::of(&app.settings, &ui, asked.lang) else {
        return Reply::not_found(nowhere(asked.lang));
    };
    let Some(form) = &asked.form else {
        return match visit.step == wanted {
            true => Reply::page(shown(app, &frame, &visit, asked).await),
            false => Reply::go(path(visit.step)),
        };
    };
    // The form of another visit: of another tab, or of another's page.
    if token::digest(form.get("form")) != token::digest(&visit.form) {
        return Reply::wrong(expired(app, asked, Some(&visit)));
    }
    if visit.step != wanted {
        return Reply::go(path(visit.step));
    }
    let done = match wanted {
        Step::Password => password(app, asked, &frame, session, &mut visit).await,
        Step::Contacts => contacts(app, asked, &frame, session, &mut visit).await,
        Step::NewPassword => new_password(app, asked, &frame, session, &mut visit).await,
        Step::Done => Ok(()),
    };
    match done {
        // Who has proved the password goes on under a name that nobody knew before.
        Ok(()) if wanted == Step::Password => {
            app.visits.end(session);
            Reply::go(path(visit.step)).with_session(app.visits.begin(visit, asked.moment))
        }
        Ok(()) => {
            let next = path(visit.step);
            app.visits.put(session, visit);
            Reply::go(next)
        }
        Err(reply) => reply,
    }
}

/// Ends a visit.
pub fn leave(app: &App, asked: &Asked) -> Reply {
    let visit = asked.session.as_deref().and_then(|session| app.visits.get(session, asked.moment));
    let Some((session, visit)) = asked.session.as_deref().zip(visit) else {
        return Reply::page(expired(app, asked, None));
    };
    let own = asked
        .form
        .as_ref()
        .is_some_and(|form| token::digest(form.get("form")) == token::digest(&visit.form));
    if own {
        app.visits.end(session);
    }
    Reply::go(&format!("./?ui={}", visit.migration))
}

fn path(step: Step) -> &'static str {
    match step {
        Step::Password => "password",
        Step::Contacts => "contacts",
        Step::NewPassword => "new-password",
        Step::Done => "state",
    }
}

fn expired(app: &App, asked: &Asked, visit: Option<&Visit>) -> Markup {
    let lang = asked.lang;
    let heading = lang.say("Sessione scaduta", "This session is over");
    let words = lang.say(
        "È passato troppo tempo, o la procedura è stata avviata in un'altra scheda. Ricominciare dal link indicato nella guida.",
        "Too much time has passed, or another tab has begun anew. Begin again from the link in the guide.",
    );
    let frame = visit.and_then(|visit| Frame::of(&app.settings, &visit.migration, lang));
    frame.map_or_else(|| nowhere(lang), |frame| frame.told(heading, words))
}

async fn shown(app: &Arc<App>, frame: &Frame<'_>, visit: &Visit, asked: &Asked) -> Markup {
    match visit.step {
        Step::Password => frame.password(visit, None),
        Step::Contacts => {
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            frame.contacts(visit, (&text(&visit.email), &text(&visit.phone)), None)
        }
        Step::NewPassword => frame.new_password(visit, &[], None),
        Step::Done => {
            let account = status(app, &visit.address).await;
            let own = account.as_ref().and_then(|it| it.cutover.as_ref()?.parse().ok());
            let cutover = own.or(frame.migration.cutover);
            frame.done(visit, &state(account.as_ref()), cutover, asked.now)
        }
    }
}

/// What the daemon says of it, if there is one to be asked.
async fn status(app: &Arc<App>, address: &str) -> Option<AccountStatus> {
    let socket = status_socket(&app.settings.daemon.control_socket);
    let wanted = StatusOf { addresses: vec![address.to_owned()], brief: true };
    let asking = spawn_blocking(move || ask(&socket, &Order::Status(wanted), STATUS_WITHIN));
    let answer = asking.await.ok().and_then(Result::ok).and_then(|answer| answer.status);
    answer.and_then(|status| status.accounts.into_iter().next())
}

/// Where nothing is known of it, the file was left just now.
fn state(account: Option<&AccountStatus>) -> State {
    account.map_or(State::Preparing, |it| {
        State::of(&it.phase, &it.condition, (it.messages.source, it.messages.copied))
    })
}

/// Whether an administrator asked for the account, as far as the daemon can be asked.
fn by_administrator(account: Option<&AccountStatus>) -> ByAdministrator {
    let Some(account) = account else { return ByAdministrator::No };
    let own = file_name(&account.address);
    let file = Path::new(&account.enrolled_by).file_name();
    match (file.is_some_and(|file| file != own.as_str()), &account.owners_password_from) {
        (false, _) => ByAdministrator::No,
        (true, Some(_)) => ByAdministrator::OwnersPassword,
        (true, None) => ByAdministrator::AnotherLogin,
    }
}

/// The password is tried, once, and sealed.
async fn password(
    app: &Arc<App>,
    asked: &Asked,
    frame: &Frame<'_>,
    session: &str,
    visit: &mut Visit,
) -> Result<(), Reply> {
    let wrong = |visit: &Visit, wrong| Err(Reply::wrong(frame.password(visit, Some(wrong))));
    let form = asked.form.as_ref().expect("a form was sent");
    let secret = SecretString::from(form.get("password"));
    if secret.expose_secret().is_empty() {
        return wrong(visit, Wrong::NoPassword);
    }
    let leave = app.limits(frame.migration).may_try(&visit.address, asked.client).await;
    let leave = match leave {
        Ok(leave) => leave,
        Err(refused) => {
            app.count("too_often");
            return wrong(visit, Wrong::Refused(refused));
        }
    };
    app.count("tries");
    let tried = try_once(&app.dialler, frame.migration, &visit.address, &secret).await;
    drop(leave);
    if let Err(failed) = tried {
        app.count(failed.name());
        log(&format!("{}: {}: {}", visit.migration, visit.address, failed.name()));
        visit.failures += u8::from(failed == Failed::Credentials);
        if visit.failures >= FAILURES_MAX {
            app.visits.end(session);
            let words = Wrong::Trial(failed).say(asked.lang);
            let heading = asked.lang.say("Password della casella", "Password of the mailbox");
            return Err(Reply::wrong(frame.told(heading, words)));
        }
        app.visits.put(session, visit.clone());
        return wrong(visit, Wrong::Trial(failed));
    }
    let seal = |login| seal(&app.settings, &visit.address, &secret, login);
    let Some((sealed, for_target)) = seal(Login::Source).zip(seal(Login::Target)) else {
        return wrong(visit, Wrong::Internal);
    };
    let keeps = frame.pages.new_password == NewPassword::SameUnlessNoncompliant
        && policy::broken(secret.expose_secret(), &visit.address).is_empty();
    visit.sealed = Some(sealed);
    visit.sealed_for_target = keeps.then_some(for_target);
    let (settings, address) = (app.settings.clone(), visit.address.clone());
    let looking = spawn_blocking(move || {
        (enrolled::mark(&settings, &address), enrolled::known(&settings, &address))
    });
    let (mark, known) = looking.await.unwrap_or_default();
    visit.mark = mark;
    visit.by_administrator = by_administrator(status(app, &visit.address).await.as_ref());
    match visit.by_administrator {
        ByAdministrator::No => {}
        // The rest of it is the administrator's to say.
        ByAdministrator::OwnersPassword => {
            visit.sealed_for_target = None;
            return finish(app, asked, frame, session, visit, None).await;
        }
        ByAdministrator::AnotherLogin => {
            app.count("not_listed");
            app.visits.end(session);
            let heading = asked.lang.say("Casella già attivata", "Already enrolled");
            let words = asked.lang.say(
                "La migrazione di questa casella è già stata avviata da un amministratore. Se la password è cambiata, rivolgersi all'assistenza.",
                "The move of this mailbox was begun by an administrator. If its password was changed, ask for help.",
            );
            return Err(Reply::page(frame.told(heading, words)));
        }
    }
    if let Some(Contact { email, phone }) = known {
        // A new password for who has been through all this: the rest stays, and so does what was
        // set at the new provider, maybe by its owner since.
        (visit.email, visit.phone) = (email, phone);
        visit.sealed_for_target = None;
        return finish(app, asked, frame, session, visit, None).await;
    }
    if Window::of(frame.migration, asked.now) != Window::Open {
        app.visits.end(session);
        return Err(ended(frame, asked));
    }
    let roster = frame.migration.accounts.as_ref();
    let listed = roster.and_then(|roster| roster.get(&visit.address));
    if let Some(row) = listed {
        (visit.email, visit.phone) = (row.contact.email.clone(), row.contact.phone.clone());
    }
    if let Err(why) = enrolled::text(
        &app.settings,
        &visit.address,
        visit.sealed.as_deref().unwrap_or_default(),
        (&None, &None),
        Rest::Own,
    ) {
        log(&format!("{}: {}: cannot be enrolled: {why}", visit.migration, visit.address));
        app.count("not_listed");
        app.visits.end(session);
        let heading = asked.lang.say("Casella non in elenco", "Not on the list");
        let words = asked.lang.say(
            "La password è corretta, ma la casella non risulta tra quelle da migrare: rivolgersi all'assistenza.",
            "The password is right, but this mailbox is not among those to be moved: ask for help.",
        );
        return Err(Reply::page(frame.told(heading, words)));
    }
    onward(app, asked, frame, session, visit).await
}

/// Contacts are given, or corrected.
async fn contacts(
    app: &Arc<App>,
    asked: &Asked,
    frame: &Frame<'_>,
    session: &str,
    visit: &mut Visit,
) -> Result<(), Reply> {
    let form = asked.form.as_ref().expect("a form was sent");
    let typed = (form.get("email").trim(), form.get("phone").trim());
    let wrong = |wrong| Err(Reply::wrong(frame.contacts(visit, typed, Some(wrong))));
    let Ok(email) = address_of(typed.0) else { return wrong(Wrong::Email) };
    let Ok(phone) = phone_of(typed.1) else { return wrong(Wrong::Phone) };
    (visit.email, visit.phone) = (Some(email), Some(phone));
    onward(app, asked, frame, session, visit).await
}

/// A password for the target.
async fn new_password(
    app: &Arc<App>,
    asked: &Asked,
    frame: &Frame<'_>,
    session: &str,
    visit: &mut Visit,
) -> Result<(), Reply> {
    let form = asked.form.as_ref().expect("a form was sent");
    let (new, again) = (form.get("new"), form.get("again"));
    let broken = policy::broken(new, &visit.address);
    let wrong = |wrong| Err(Reply::wrong(frame.new_password(visit, &broken, Some(wrong))));
    if !broken.is_empty() {
        return wrong(Wrong::Policy);
    }
    if token::digest(new) != token::digest(again) {
        return wrong(Wrong::Confirmation);
    }
    let secret = SecretString::from(new);
    // It is well-formed but for what no login can carry.
    let Some(sealed) = seal(&app.settings, &visit.address, &secret, Login::Target) else {
        return wrong(Wrong::Policy);
    };
    finish(app, asked, frame, session, visit, Some(sealed)).await
}

/// To the next step that the migration has, or the end.
async fn onward(
    app: &Arc<App>,
    asked: &Asked,
    frame: &Frame<'_>,
    session: &str,
    visit: &mut Visit,
) -> Result<(), Reply> {
    let asks = match frame.pages.new_password {
        NewPassword::None => false,
        NewPassword::Free => true,
        NewPassword::SameUnlessNoncompliant => visit.sealed_for_target.is_none(),
    };
    match visit.step {
        Step::Password if frame.pages.contacts => visit.step = Step::Contacts,
        Step::Password | Step::Contacts if asks => visit.step = Step::NewPassword,
        _ => return finish(app, asked, frame, session, visit, None).await,
    }
    Ok(())
}

/// Leaves the new password for the hook, then the enrollment for the daemon: who is enrolled has
/// nothing left to do.
async fn finish(
    app: &Arc<App>,
    asked: &Asked,
    frame: &Frame<'_>,
    session: &str,
    visit: &mut Visit,
    new_password: Option<String>,
) -> Result<(), Reply> {
    // Nobody else's look and writing are between this one's.
    let _alone = app.finishing.lock().await;
    if visit.step != Step::Password
        && app.visits.get(session, asked.moment).is_some_and(|kept| kept.step == Step::Done)
    {
        // The button was pressed twice.
        return Err(Reply::go(path(Step::Done)));
    }
    let (settings, address) = (app.settings.clone(), visit.address.clone());
    let mark = spawn_blocking(move || enrolled::mark(&settings, &address)).await.ok().flatten();
    let is_enrolled = visit.mark.is_some() || visit.by_administrator != ByAdministrator::No;
    let window = Window::of(frame.migration, asked.now);
    match may_finish(window, is_enrolled, visit.mark == mark) {
        Ok(()) => {}
        Err(Late::WindowEnded) => {
            app.visits.end(session);
            return Err(ended(frame, asked));
        }
        Err(Late::EnrollmentChanged) => {
            app.visits.end(session);
            return Err(Reply::wrong(expired(app, asked, Some(visit))));
        }
    }
    let new_password = new_password.or(visit.sealed_for_target.take());
    let (settings, leaving) = (app.settings.clone(), visit.clone());
    let written = spawn_blocking(move || {
        let Visit { migration, address, sealed, email, phone, .. } = &leaving;
        let sealed = sealed.as_deref().ok_or("no password was tried")?;
        let rest = match leaving.by_administrator {
            ByAdministrator::No => Rest::Own,
            _ => Rest::Administrators,
        };
        let text = enrolled::text(&settings, address, sealed, (email, phone), rest)?;
        if let (Some(new), Some(service)) = (&new_password, &settings.portal.service) {
            enrolled::queue_password(&service.state_dir, migration, address, new)
                .map_err(|error| format!("the queue of new passwords: {error}"))?;
        }
        let file = enrolled::file(&settings, address);
        // Beside an administrator's file the later one counts.
        let time = if rest == Rest::Own { Time::Kept } else { Time::Now };
        enrolled::write(&file, text.as_bytes(), time)
            .map_err(|error| format!("{}: {error}", file.display()))
    });
    let written = written.await.unwrap_or_else(|error| Err(error.to_string()));
    match written {
        Ok(()) => {
            app.count("enrolled");
            log(&format!("{}: {}: enrolled", visit.migration, visit.address));
            let is_new = visit.step == Step::Password;
            visit.step = Step::Done;
            visit.sealed = None;
            app.visits.end_others(&visit.address, session);
            if !is_new {
                app.visits.put(session, visit.clone());
            }
            Ok(())
        }
        Err(why) => {
            app.count("internal");
            log(&format!("{}: {}: not enrolled: {why}", visit.migration, visit.address));
            let heading = asked.lang.say("Errore interno", "Internal error");
            Err(Reply::failed(frame.told(heading, Wrong::Internal.say(asked.lang))))
        }
    }
}

/// Why a visit that has proved the password may not enroll any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Late {
    WindowEnded,
    EnrollmentChanged,
}

/// `is_enrolled`: it was when the password was proved, and who had enrolled comes back also when the
/// window has ended; `is_unchanged`: the page's enrollment, or that there is none, is as it was then.
fn may_finish(window: Window, is_enrolled: bool, is_unchanged: bool) -> Result<(), Late> {
    match window {
        _ if !is_unchanged => Err(Late::EnrollmentChanged),
        Window::Open => Ok(()),
        _ if is_enrolled => Ok(()),
        _ => Err(Late::WindowEnded),
    }
}

fn seal(settings: &Settings, address: &str, secret: &SecretString, login: Login) -> Option<String> {
    let key = sealing::sealing_keys(&settings.dir).into_iter().next();
    let Some(key) = key else {
        log("no public key in keys/: pecsync seal --new-key");
        return None;
    };
    key.seal(secret, address, login).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_proved_a_password_may_be_late_all_the_same() {
        for window in [Window::NotYet, Window::Open, Window::Ended, Window::Over] {
            let enrolls = may_finish(window, false, true);
            let closed = Err(Late::WindowEnded);
            assert_eq!(enrolls, if window == Window::Open { Ok(()) } else { closed });
            assert_eq!(may_finish(window, true, true), Ok(()));
            for is_enrolled in [false, true] {
                let changed = may_finish(window, is_enrolled, false);
                assert_eq!(changed, Err(Late::EnrollmentChanged));
            }
        }
    }

    #[test]
    fn what_is_typed_for_an_address() {
        #[track_caller]
        fn check(mailbox: &str, domain: &str, expected: Option<&str>) {
            let domains = ["pec.istruzione.it".to_owned(), "postacert.istruzione.it".to_owned()];
            assert_eq!(address(mailbox, domain, &domains).as_deref(), expected);
        }
        check("mic80008", "", Some("mic80008@pec.istruzione.it"));
        check("MIC80008", "postacert.istruzione.it", Some("mic80008@postacert.istruzione.it"));
        check("mic80008", "altro.it", Some("mic80008@pec.istruzione.it"));
        check("a@Postacert.istruzione.it", "pec.istruzione.it", Some("a@postacert.istruzione.it"));
        check("a@altro.it", "pec.istruzione.it", None);
        check("a@b@pec.istruzione.it", "", None);
        check("", "", None);
        check("<script>", "", None);
        check("a b", "", None);
        check("a\r\nb", "", None);
    }
}
