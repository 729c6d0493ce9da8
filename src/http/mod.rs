//! What a process tells over HTTP: that it is alive, its figures, and a coordinator also its page.
//!
//! ```text
//! /healthz /readyz /metrics      coordinator and worker
//! /                              coordinator: the page, which asks the rest for what it shows
//! /api/…                         coordinator: JSON, explained in docs/http.md
//! /jobs/<job>/report.html, …     coordinator: what a job left for people
//! /models/<model>/history.html   coordinator: a model over the nights
//! ```

mod access;
mod actions;
mod album;
mod answer;
mod api;
mod census;
mod ledger;
mod models;
mod page;
mod probes;
mod results;
mod site;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::middleware::map_response;
use axum::response::Response;
use tokio::net::TcpListener;
use tracing::info;

use crate::config::HttpSettings;
use crate::error::{Context, Kind, Result};

pub use probes::probes;
pub use site::Site;

/// Nothing from elsewhere, no script or style in the page itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Starts to listen where `settings` say; nowhere when they say so.
///
/// # Errors
/// Of kind `Usage` when the place cannot be had.
pub async fn listen(settings: &HttpSettings) -> Result<Option<TcpListener>> {
    if settings.listen.is_empty() {
        return Ok(None);
    }
    let listener = TcpListener::bind(&settings.listen).await;
    let listener =
        listener.context(Kind::Usage, || format!("http.listen = {}: no listening there", settings.listen))?;
    let address = listener.local_addr().context(Kind::Internal, || "the address in use is unknown".into())?;
    info!(%address, "serves HTTP");
    Ok(Some(listener))
}

/// Answers whoever connects, for ever.
pub async fn serve(listener: TcpListener, router: Router) -> Result<()> {
    axum::serve(listener, router.layer(map_response(with_headers)))
        .await
        .context(Kind::Internal, || "the HTTP server ended".into())
}

/// What every answer says to a browser, where it does not say otherwise itself.
async fn with_headers(mut response: Response) -> Response {
    let defaults: [(HeaderName, &'static str); 4] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in defaults {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
