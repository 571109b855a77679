//! HTTP, and its bounds: how much, how long, from where. What a page does is in `steps`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use maud::Markup;
use pecsync::config::portal::{PublicUrl, Service};
use pecsync::config::{Migration, Settings, sealing};
use pecsync::imap::Dialler;
use pecsync::journal::shown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use crate::captcha::Captcha;
use crate::limits::{Arrivals, Limits};
use crate::session::{Step, Visits};
use crate::words::Lang;
use crate::{Refusal, enrolled, steps, trial};

const CONNECTIONS_MAX: usize = 512;
const METRICS_CONNECTIONS_MAX: usize = 16;
/// Of a request's line and headers, also for the next one on the same connection.
const HEADERS_WITHIN: Duration = Duration::from_secs(15);
/// Of the body and all that comes of it, a login at the provider's among them.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);
const BODY_WITHIN: Duration = Duration::from_secs(15);
/// An answer is taken, and the connection ended, within this.
const CONNECTION_LASTS: Duration = Duration::from_secs(300);
const BODY_OCTETS_MAX: usize = 16 << 10;
const LOGO_OCTETS_MAX: u64 = 512 << 10;
const HOUSEKEEPING: Duration = Duration::from_secs(60);

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What all requests share.
pub struct App {
    pub settings: Arc<Settings>,
    service: Service,
    pub visits: Visits,
    /// Held from the last look at an enrollment to its writing.
    pub finishing: Mutex<()>,
    pub captcha: Captcha,
    pub arrivals: Arrivals,
    pub dialler: Dialler,
    /// By the source's host.
    limits: BTreeMap<String, Limits>,
    logos: BTreeMap<String, (&'static str, Vec<u8>)>,
    counts: BTreeMap<&'static str, AtomicU64>,
}

/// What is counted: visits, tries, and how they end.
const COUNTED: [&str; 12] = [
    "visits",
    "robot",
    "too_often",
    "tries",
    "credentials_rejected",
    "second_factor_suspected",
    "imap_disabled",
    "too_many_connections",
    "unreachable",
    "not_listed",
    "enrolled",
    "internal",
];

impl App {
    pub fn new(settings: Settings) -> Result<App, String> {
        let Some(service) = settings.portal.service.clone() else {
            return Err("nothing says where the page is: add [portal] to pecsync.toml".to_owned());
        };
        if settings.portal.pages.is_empty() {
            return Err("no migration has a page: add [migration.NAME.portal]".to_owned());
        }
        if sealing::sealing_keys(&settings.dir).is_empty() {
            return Err("no public key in keys/: make one with pecsync seal --new-key".to_owned());
        }
        let directory = enrolled::file(&settings, "").with_file_name("");
        if !directory.is_dir() {
            return Err(format!("{} is not there", directory.display()));
        }
        let mut logos = BTreeMap::new();
        for (ui, pages) in &settings.portal.pages {
            let Some(path) = &pages.logo else { continue };
            logos.insert(ui.clone(), logo(path)?);
        }
        let hosts = settings.migrations.values().map(|migration| migration.source.host.clone());
        let limits = hosts.map(|host| {
            let own = settings.limits.hosts.get(&host).unwrap_or(&settings.limits.default);
            (host, Limits::new(own))
        });
        Ok(App {
            limits: limits.collect(),
            settings: Arc::new(settings),
            service,
            visits: Visits::default(),
            finishing: Mutex::default(),
            captcha: Captcha::new(),
            arrivals: Arrivals::new(),
            dialler: trial::dialler(),
            logos,
            counts: COUNTED.into_iter().map(|name| (name, AtomicU64::new(0))).collect(),
        })
    }

    pub fn limits(&self, migration: &Migration) -> &Limits {
        &self.limits[&migration.source.host]
    }

    pub fn count(&self, what: &'static str) {
        self.counts[what].fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets what is over.
    fn tidy(&self) {
        self.limits.values().for_each(Limits::forget);
        self.arrivals.forget();
        self.visits.forget(Instant::now());
    }

    /// For Prometheus.
    fn metrics(&self) -> String {
        let mut text = String::from(
            "# HELP pecsync_portal_events_total Visits, tries of passwords, and how they ended.\n\
             # TYPE pecsync_portal_events_total counter\n",
        );
        for (name, count) in &self.counts {
            let count = count.load(Ordering::Relaxed);
            text.push_str(&format!("pecsync_portal_events_total{{event=\"{name}\"}} {count}\n"));
        }
        text
    }
}

fn logo(path: &std::path::Path) -> Result<(&'static str, Vec<u8>), String> {
    let kind = match path.extension().and_then(|ending| ending.to_str()) {
        Some("svg") => "image/svg+xml",
        _ => "image/png",
    };
    let cannot = |why: String| format!("logo {}: {why}", path.display());
    let facts = fs::metadata(path).map_err(|error| cannot(error.to_string()))?;
    if !facts.is_file() || facts.len() > LOGO_OCTETS_MAX {
        return Err(cannot(format!("not a file of at most {} KiB", LOGO_OCTETS_MAX >> 10)));
    }
    Ok((kind, fs::read(path).map_err(|error| cannot(error.to_string()))?))
}

/// A line for the journal; it names addresses at most.
pub fn log(line: &str) {
    eprintln!("{}", shown(line));
}

/// Serves until it is killed: nothing is ever half written.
pub async fn run(settings: Settings) -> Result<Infallible, Refusal> {
    let app = Arc::new(App::new(settings).map_err(|why| (crate::CONFIGURATION, why))?);
    let cannot = |error: std::io::Error| (1, format!("{}: {error}", app.service.listen));
    let listener = TcpListener::bind(app.service.listen).await.map_err(cannot)?;
    if let Some(address) = app.service.metrics_listen {
        let cannot = |error: std::io::Error| (1, format!("metrics_listen {address}: {error}"));
        let listener = TcpListener::bind(address).await.map_err(cannot)?;
        tokio::spawn(accept(listener, metrics_router(app.clone()), METRICS_CONNECTIONS_MAX, false));
    }
    let service = &app.service;
    log(&format!("serving {} at {}", service.public_url.origin, service.listen));
    let is_https = service.public_url.is_https;
    let tidying = async {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        loop {
            housekeeping.tick().await;
            app.tidy();
        }
    };
    tokio::select! {
        never = accept(listener, router(app.clone()), CONNECTIONS_MAX, is_https) => Ok(never),
        never = tidying => never,
    }
}

/// Serves all who come, so many at once.
async fn accept(
    listener: TcpListener,
    router: Router,
    connections_max: usize,
    is_https: bool,
) -> Infallible {
    let places = Arc::new(Semaphore::new(connections_max));
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // No descriptor is free: somebody's connection ends soon.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // Beyond the bound they wait in the kernel's queue.
        let place = places.clone().acquire_owned().await.expect("never closed");
        let router = router.clone();
        tokio::spawn(async move {
            let serving = connection(stream, peer, router, is_https);
            let _ = timeout(CONNECTION_LASTS, serving).await;
            drop(place);
        });
    }
}

/// The peer of a connection.
#[derive(Clone, Copy)]
struct Peer(IpAddr);

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, is_https: bool) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let is_form = request.method() == Method::POST;
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer.ip().to_canonical()));
        let router = router.clone();
        async move {
            let answer = timeout(ANSWER_WITHIN, call(router, request)).await;
            let late = || StatusCode::SERVICE_UNAVAILABLE.into_response();
            let mut answer = answer.unwrap_or_else(|_| late());
            guard(answer.headers_mut(), is_https);
            if is_form {
                // What it was read into is given back with the connection, and wiped.
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN).max_buf_size(32 << 10);
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

async fn call(router: Router, request: Request) -> Response {
    use hyper_util::service::TowerToHyperService;
    let answer = hyper::service::Service::call(&TowerToHyperService::new(router), request).await;
    answer.unwrap_or_else(|never: Infallible| match never {})
}

fn router(app: Arc<App>) -> Router {
    let step = |step: Step| {
        move |State(app): State<Arc<App>>, request: Request| async move {
            page(app, request, Some(step)).await
        }
    };
    let at = |wanted: Step| get(step(wanted)).post(step(wanted));
    let start = |State(app): State<Arc<App>>, request: Request| page(app, request, None);
    let css = || file("text/css; charset=utf-8", include_bytes!("../static/style.css"));
    let script = || file("text/javascript; charset=utf-8", include_bytes!("../static/portal.js"));
    let picture = |State(app): State<Arc<App>>, request: Request| async move {
        let ui = query(request.uri().query(), "ui").unwrap_or_default();
        let found = app.logos.get(&ui).map(|(kind, octets)| bounded(kind, octets.clone()));
        found.unwrap_or_else(|| StatusCode::NOT_FOUND.into_response())
    };
    Router::new()
        .route("/", get(start).post(start))
        .route("/password", at(Step::Password))
        .route("/contacts", at(Step::Contacts))
        .route("/new-password", at(Step::NewPassword))
        .route("/state", at(Step::Done))
        .route("/leave", axum::routing::post(left))
        .route("/style.css", get(css))
        .route("/portal.js", get(script))
        .route("/logo", get(picture))
        .with_state(app)
}

/// At an address of its own, which no reverse proxy leads to.
fn metrics_router(app: Arc<App>) -> Router {
    let metrics = |State(app): State<Arc<App>>| async move {
        bounded("text/plain; version=0.0.4", app.metrics().into_bytes())
    };
    Router::new().route("/metrics", get(metrics)).with_state(app)
}

async fn file(kind: &'static str, octets: &'static [u8]) -> Response {
    bounded(kind, octets.to_vec())
}

fn bounded(kind: &'static str, octets: Vec<u8>) -> Response {
    let mut answer = octets.into_response();
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
    answer
}

/// `None`: the first page.
async fn page(app: Arc<App>, request: Request, step: Option<Step>) -> Response {
    let asked = match Asked::of(&app, request).await {
        Ok(asked) => asked,
        Err(status) => return status.into_response(),
    };
    if step.is_none() && asked.form.is_none() {
        app.count("visits");
    }
    let reply = match step {
        None => steps::start(&app, &asked).await,
        Some(step) => steps::step(&app, &asked, step).await,
    };
    reply.response(&app.service.public_url, &asked)
}

async fn left(State(app): State<Arc<App>>, request: Request) -> Response {
    match Asked::of(&app, request).await {
        Ok(asked) => steps::leave(&app, &asked).response(&app.service.public_url, &asked),
        Err(status) => status.into_response(),
    }
}

/// A request, as far as the steps need it.
pub struct Asked {
    query: Option<String>,
    pub form: Option<Form>,
    pub session: Option<String>,
    pub client: IpAddr,
    pub lang: Lang,
    /// The language was chosen with this request.
    chose: bool,
    pub now: Timestamp,
    /// The same, on a clock that nobody sets.
    pub moment: Instant,
}

/// Fields, wiped when dropped: they hold passwords.
pub struct Form(Vec<(String, Zeroizing<String>)>);

impl Form {
    fn of(octets: &[u8]) -> Form {
        let fields = form_urlencoded::parse(octets);
        let kept = fields.map(|(name, value)| (name.into_owned(), Zeroizing::new(value.into())));
        Form(kept.collect())
    }

    /// Empty where it is not there.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }
}

impl Asked {
    async fn of(app: &App, request: Request) -> Result<Asked, StatusCode> {
        let url = &app.service.public_url;
        let (parts, body) = request.into_parts();
        let headers = &parts.headers;
        let query_text = parts.uri.query().map(str::to_owned);
        let peer = parts.extensions.get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |it| it.0);
        let chosen = query(query_text.as_deref(), "lang").and_then(|code| lang(&code));
        let form = match parts.method {
            Method::POST => {
                is_own(headers, url).then_some(()).ok_or(StatusCode::FORBIDDEN)?;
                let reading = timeout(BODY_WITHIN, to_bytes(body, BODY_OCTETS_MAX)).await;
                let octets = reading.map_err(|_| StatusCode::REQUEST_TIMEOUT)?;
                let octets = octets.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
                Some(Form::of(&octets))
            }
            _ => None,
        };
        Ok(Asked {
            query: query_text,
            form,
            session: cookie(headers, session_name(url)),
            client: client(peer, headers, &app.service.trusted_proxies),
            lang: chosen
                .or_else(|| cookie(headers, "lang").and_then(|code| lang(&code)))
                .unwrap_or(Lang::It),
            chose: chosen.is_some(),
            now: Timestamp::now(),
            moment: Instant::now(),
        })
    }

    pub fn query(&self, name: &str) -> Option<String> {
        query(self.query.as_deref(), name)
    }
}

fn query(text: Option<&str>, name: &str) -> Option<String> {
    let mut fields = form_urlencoded::parse(text?.as_bytes());
    fields.find(|(own, _)| own == name).map(|(_, value)| value.into_owned())
}

fn lang(code: &str) -> Option<Lang> {
    [Lang::It, Lang::En].into_iter().find(|lang| lang.code() == code)
}

/// A form comes from a page of ours: browsers say so, and other pages cannot make them lie.
fn is_own(headers: &HeaderMap, url: &PublicUrl) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let site = text(HeaderName::from_static("sec-fetch-site"));
    match (text(header::ORIGIN), site) {
        // What a page that sends no referrer, as ours, says.
        (Some("null") | None, Some(site)) => site == "same-origin",
        (Some(origin), site) => origin == url.origin && site.is_none_or(|it| it == "same-origin"),
        (None, None) => false,
    }
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|it| it.split_once('='));
    pairs.find(|(own, _)| own.trim() == name).map(|(_, value)| value.trim().to_owned())
}

fn session_name(url: &PublicUrl) -> &'static str {
    match (url.is_https, url.path.as_str()) {
        (true, "/") => "__Host-pecsync",
        (true, _) => "__Secure-pecsync",
        (false, _) => "pecsync",
    }
}

/// Who asks: the last of the addresses that a trusted proxy names which is no proxy itself.
fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpAddr]) -> IpAddr {
    let lines = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let named: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    let mut client = peer;
    for name in named.into_iter().rev() {
        if !trusted.contains(&client) {
            break;
        }
        let Ok(address) = name.parse::<IpAddr>() else { break };
        client = address.to_canonical();
    }
    client
}

/// What a step answers.
pub struct Reply {
    status: StatusCode,
    body: Option<Markup>,
    location: Option<String>,
    session: Option<String>,
}

impl Reply {
    fn of(status: StatusCode, body: Markup) -> Reply {
        Reply { status, body: Some(body), location: None, session: None }
    }

    pub fn page(body: Markup) -> Reply {
        Reply::of(StatusCode::OK, body)
    }

    /// The form is shown again.
    pub fn wrong(body: Markup) -> Reply {
        Reply::of(StatusCode::UNPROCESSABLE_ENTITY, body)
    }

    pub fn not_found(body: Markup) -> Reply {
        Reply::of(StatusCode::NOT_FOUND, body)
    }

    pub fn failed(body: Markup) -> Reply {
        Reply::of(StatusCode::INTERNAL_SERVER_ERROR, body)
    }

    /// To another page, with GET; relative to this one.
    pub fn go(path: &str) -> Reply {
        let location = Some(path.to_owned());
        Reply { status: StatusCode::SEE_OTHER, body: None, location, session: None }
    }

    pub fn with_session(self, token: String) -> Reply {
        Reply { session: Some(token), ..self }
    }

    fn response(self, url: &PublicUrl, asked: &Asked) -> Response {
        let body = self.body.map(Markup::into_string).unwrap_or_default();
        let mut answer = (self.status, body).into_response();
        let headers = answer.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, html);
        let secure = if url.is_https { "; Secure" } else { "" };
        let path = &url.path;
        let mut put = |name: HeaderName, text: String| {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.append(name, value);
            }
        };
        if let Some(location) = self.location {
            put(header::LOCATION, location);
        }
        if let Some(token) = self.session {
            let name = session_name(url);
            put(
                header::SET_COOKIE,
                format!("{name}={token}; Path={path}; HttpOnly; SameSite=Strict{secure}"),
            );
        }
        if asked.chose {
            let code = asked.lang.code();
            put(
                header::SET_COOKIE,
                format!("lang={code}; Path={path}; HttpOnly; SameSite=Lax{secure}"),
            );
        }
        answer
    }
}

/// What every answer says to browsers.
fn guard(headers: &mut HeaderMap, is_https: bool) {
    if is_https {
        let a_year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, a_year);
    }
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_proxies_are_believed_about_who_asks() {
        #[track_caller]
        fn check(peer: &str, forwarded: &[(&'static str, &'static str)], expected: &str) {
            let trusted = ["127.0.0.1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
            let found = client(peer.parse().unwrap(), &headers(forwarded), &trusted);
            assert_eq!(found.to_string(), expected);
        }
        let by = |list| [("x-forwarded-for", list)];
        check("127.0.0.1", &[], "127.0.0.1");
        check("127.0.0.1", &by("198.51.100.7"), "198.51.100.7");
        check("203.0.113.9", &by("198.51.100.7"), "203.0.113.9");
        check("127.0.0.1", &by("10.9.9.9, 198.51.100.7"), "198.51.100.7");
        check("127.0.0.1", &by("198.51.100.7, 192.0.2.1"), "198.51.100.7");
        check("127.0.0.1", &by("junk"), "127.0.0.1");
        let lines = [("x-forwarded-for", "10.9.9.9"), ("x-forwarded-for", "198.51.100.7")];
        check("127.0.0.1", &lines, "198.51.100.7");
        check("127.0.0.1", &by("::ffff:198.51.100.7"), "198.51.100.7");
    }

    #[test]
    fn forms_of_other_pages_are_refused() {
        #[track_caller]
        fn check(lines: &[(&'static str, &'static str)], expected: bool) {
            let url = PublicUrl {
                origin: "https://migra.it".to_owned(),
                host: "migra.it".to_owned(),
                path: "/".to_owned(),
                is_https: true,
            };
            assert_eq!(is_own(&headers(lines), &url), expected, "{lines:?}");
        }
        let site = |value| ("sec-fetch-site", value);
        check(&[], false);
        check(&[("origin", "https://migra.it")], true);
        check(&[("origin", "https://migra.it"), site("same-origin")], true);
        check(&[("origin", "https://migra.it"), site("cross-site")], false);
        check(&[("origin", "https://evil.it")], false);
        check(&[("origin", "http://migra.it")], false);
        check(&[("origin", "null")], false);
        check(&[("origin", "null"), site("same-origin")], true);
        check(&[site("same-site")], false);
    }

    #[test]
    fn cookies_and_forms() {
        let two = headers(&[("cookie", "a=1; lang=en"), ("cookie", "pecsync=t")]);
        assert_eq!(cookie(&two, "lang").as_deref(), Some("en"));
        assert_eq!(cookie(&two, "pecsync").as_deref(), Some("t"));
        assert_eq!(cookie(&two, "b"), None);
        let form = Form::of(b"password=a%2Bb+c%C3%A8&x=1&password=2");
        assert_eq!((form.get("password"), form.get("none")), ("a+b cè", ""));
    }
}
