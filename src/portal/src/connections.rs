//! Connections and their bounds: how many, how long, with TLS or behind a reverse proxy; and what
//! every answer says to browsers.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{self, HeaderMap, HeaderName};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::limits::Crowds;
use crate::tls::Tls;

/// Of TLS, before anything is asked.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(15);
/// Of a request's line and headers, also for the next one on the same connection.
const HEADERS_WITHIN: Duration = Duration::from_secs(15);
/// Of the body and all that comes of it, a login at the provider's among them.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);
/// An answer is taken, and the connection ended, within this.
const CONNECTION_LASTS: Duration = Duration::from_secs(300);

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What is served at an address, and how.
#[derive(Clone)]
pub struct HttpServer {
    pub router: Router,
    pub connections_max: usize,
    /// Browsers came by TLS, be it a reverse proxy's.
    pub is_https: bool,
    pub direct: Option<Direct>,
}

/// What it takes where browsers come without a reverse proxy.
#[derive(Clone)]
pub struct Direct {
    pub tls: Arc<Tls>,
    pub crowds: Arc<Crowds>,
}

/// Who connected.
#[derive(Clone, Copy)]
pub struct Peer(pub IpAddr);

impl HttpServer {
    /// Serves all who come, so many at once.
    pub async fn serve(self, listener: TcpListener) -> Infallible {
        let places = Arc::new(Semaphore::new(self.connections_max));
        loop {
            let Ok((stream, peer)) = listener.accept().await else {
                // No descriptor is free: somebody's connection ends soon.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let crowd = match &self.direct {
                None => None,
                Some(direct) => match direct.crowds.enter(peer.ip()) {
                    // Of its network there are too many.
                    None => continue,
                    entered => entered,
                },
            };
            // Beyond the bound they wait in the kernel's queue.
            let place = places.clone().acquire_owned().await.expect("never closed");
            let server = self.clone();
            tokio::spawn(async move {
                let _ = timeout(CONNECTION_LASTS, server.connection(stream, peer)).await;
                drop((place, crowd));
            });
        }
    }

    async fn connection(self, stream: TcpStream, peer: SocketAddr) {
        let Some(Direct { tls, .. }) = self.direct.clone() else {
            return self.http(stream, peer).await;
        };
        // Who speaks no TLS is told nothing, plain HTTP least of all.
        if let Ok(Ok(stream)) = timeout(HANDSHAKE_WITHIN, tls.accept(stream)).await {
            self.http(stream, peer).await;
        }
    }

    async fn http(self, stream: impl AsyncRead + AsyncWrite + Unpin, peer: SocketAddr) {
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let is_form = request.method() == Method::POST;
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Peer(peer.ip().to_canonical()));
            let HttpServer { router, is_https, .. } = self.clone();
            async move {
                let answer = timeout(ANSWER_WITHIN, call(router, request)).await;
                let late = || StatusCode::SERVICE_UNAVAILABLE.into_response();
                let mut answer = answer.unwrap_or_else(|_| late());
                guard(answer.headers_mut(), is_https);
                if is_form {
                    // What it was read into is given back with the connection, and wiped.
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN).max_buf_size(32 << 10);
        let _ = http.serve_connection(TokioIo::new(stream), service).await;
    }
}

async fn call(router: Router, request: Request) -> Response {
    use hyper_util::service::TowerToHyperService;
    let answer = hyper::service::Service::call(&TowerToHyperService::new(router), request).await;
    answer.unwrap_or_else(|never: Infallible| match never {})
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
    use tokio::time::Instant;

    use super::*;

    /// Time stands still but for who waits for it.
    #[tokio::test(start_paused = true)]
    async fn who_does_not_shake_hands_is_let_go_before_long() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let _silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let tls = Arc::new(crate::tls::tests::tls());
        let direct = Some(Direct { tls, crowds: Arc::new(Crowds::new(&[])) });
        let router = Router::new();
        let server = HttpServer { router, connections_max: 1, is_https: true, direct };
        let begun = Instant::now();
        server.connection(stream, peer).await;
        assert!(begun.elapsed() < HANDSHAKE_WITHIN + Duration::from_secs(1));
    }
}
