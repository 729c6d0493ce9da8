//! Who may change something.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Site;
use super::answer::Refusal;
use crate::config::Secret;

/// Somebody who sent the token.
#[derive(Debug)]
pub(super) struct Authorised;

impl FromRequestParts<Arc<Site>> for Authorised {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Self, Refusal> {
        let header = parts.headers.get(AUTHORIZATION).map(|value| value.as_bytes());
        check(site.token(), header).map(|()| Self)
    }
}

/// Compares what was sent with the token.
fn check(token: &Secret, header: Option<&[u8]>) -> Result<(), Refusal> {
    if token.is_empty() {
        let why = "nobody may change anything here: set http.token (HARDY_HTTP__TOKEN) on the coordinators to allow it";
        return Err(Refusal::new(StatusCode::FORBIDDEN, why));
    }
    let refused = |why| Err(Refusal::new(StatusCode::UNAUTHORIZED, why));
    let sent = header.and_then(|h| {
        let (scheme, token) = h.split_at_checked("Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
    });
    let Some(sent) = sent else {
        return refused("this needs a token: send the header 'Authorization: Bearer TOKEN'");
    };
    // Digests are equally long, so that the time taken tells nothing of the token's length either.
    let same = Sha256::digest(sent).ct_eq(&Sha256::digest(token.expose()));
    if bool::from(same) { Ok(()) } else { refused("this is not the token of http.token") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn status(token: &str, header: Option<&str>) -> u16 {
        check(&Secret::from(token), header.map(str::as_bytes)).map_or_else(|r| r.status.as_u16(), |()| 200)
    }

    #[test]
    fn only_the_token_opens() {
        assert_eq!(status("sesame", Some("Bearer sesame")), 200);
        assert_eq!(status("sesame", Some("bearer  sesame ")), 200);
        for wrong in ["Bearer sesam", "Bearer sesame!", "Bearer ", "Bearer", "Basic sesame", "sesame", "", "Bearer é"]
        {
            assert_eq!(status("sesame", Some(wrong)), 401, "{wrong}");
        }
        assert_eq!(status("sesame", None), 401);
        assert_eq!((status("", None), status("", Some("Bearer "))), (403, 403));
    }
}
