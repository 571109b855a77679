//! A request as far as the steps need it, and what a step answers.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::header::{self, HeaderMap, HeaderName};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use maud::Markup;
use pecsync::config::portal::{PublicUrl, Service};
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use crate::connections::Peer;
use crate::words::Lang;

const BODY_WITHIN: Duration = Duration::from_secs(15);
const BODY_OCTETS_MAX: usize = 16 << 10;

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
    pub async fn of(service: &Service, request: Request) -> Result<Asked, StatusCode> {
        let url = &service.public_url;
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
            client: client(peer, headers, &service.trusted_proxies),
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

/// A field of a query.
pub fn query(text: Option<&str>, name: &str) -> Option<String> {
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

    pub fn response(self, url: &PublicUrl, asked: &Asked) -> Response {
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
