//! What is served, and by whom: the program's state, its routes, its housekeeping. What a page does
//! is in `steps`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use pecsync::config::portal::Service;
use pecsync::config::{Migration, Settings, sealing};
use pecsync::imap::Dialler;
use pecsync::journal::shown;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::captcha::Captcha;
use crate::connections::{Direct, HttpServer};
use crate::exchange::{Asked, query};
use crate::limits::{Arrivals, Crowds, Limits};
use crate::session::{Step, Visits};
use crate::tls::Tls;
use crate::{Refusal, enrolled, steps, trial};

const CONNECTIONS_MAX: usize = 512;
const METRICS_CONNECTIONS_MAX: usize = 16;
const LOGO_OCTETS_MAX: u64 = 512 << 10;
const HOUSEKEEPING: Duration = Duration::from_secs(60);

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
    let service = &app.service;
    let tls = service.certificate.as_ref().map(|files| Tls::new(files, &service.public_url.host));
    let tls = tls.transpose().map_err(|why| (crate::CONFIGURATION, why))?.map(Arc::new);
    let cannot = |error: std::io::Error| (1, format!("{}: {error}", service.listen));
    let listener = TcpListener::bind(service.listen).await.map_err(cannot)?;
    if let Some(address) = service.metrics_listen {
        let cannot = |error: std::io::Error| (1, format!("metrics_listen {address}: {error}"));
        let listener = TcpListener::bind(address).await.map_err(cannot)?;
        let router = metrics_router(app.clone());
        let connections_max = METRICS_CONNECTIONS_MAX;
        tokio::spawn(
            HttpServer { router, connections_max, is_https: false, direct: None }.serve(listener),
        );
    }
    let by = if tls.is_some() { "with TLS" } else { "for a reverse proxy" };
    log(&format!("serving {} at {}, {by}", service.public_url.origin, service.listen));
    let crowds = Crowds::new(&service.trusted_proxies);
    let server = HttpServer {
        router: router(app.clone()),
        connections_max: CONNECTIONS_MAX,
        is_https: service.public_url.is_https,
        direct: tls.clone().map(|tls| Direct { tls, crowds: crowds.into() }),
    };
    tokio::select! {
        never = server.serve(listener) => Ok(never),
        never = keep_house(&app, tls) => Ok(never),
    }
}

/// Each minute: what is over is forgotten, and a renewed certificate taken up.
async fn keep_house(app: &App, tls: Option<Arc<Tls>>) -> Infallible {
    let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
    loop {
        housekeeping.tick().await;
        app.tidy();
        let Some(tls) = tls.clone() else { continue };
        if let Ok(Some(line)) = spawn_blocking(move || tls.renew()).await {
            log(&line);
        }
    }
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
    let asked = match Asked::of(&app.service, request).await {
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
    match Asked::of(&app.service, request).await {
        Ok(asked) => steps::leave(&app, &asked).response(&app.service.public_url, &asked),
        Err(status) => status.into_response(),
    }
}
