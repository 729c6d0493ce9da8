//! What a failed request to S3 means: whether to try again, and what to tell a person.

use std::error::Error as StdError;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

/// A failed request, reduced to what is needed of it. It holds nothing of the request itself, so that
/// neither a header nor a signature can get into a message.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// S3's name of the error, empty when the server gave none or was not reached.
    pub(super) code: String,
    /// Whether the same request may succeed later.
    pub(super) transient: bool,
    /// How often it was tried.
    pub(super) tries: u32,
    text: String,
    hint: &'static str,
}

impl Failure {
    /// Reads an error of the SDK.
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        match error {
            SdkError::ServiceError(e) => Self::answered(e.raw().status().as_u16(), e.err().code(), e.err().message()),
            SdkError::ResponseError(e) => {
                Self::local(true, format!("the answer cannot be read ({}){}", e.raw().status().as_u16(), causes(error)))
            }
            SdkError::TimeoutError(_) => Self::unreachable(format!("no answer in time{}", causes(error))),
            SdkError::DispatchFailure(e) => match credentials(error) {
                Some(failure) => failure,
                None if e.is_user() => Self::local(false, format!("the request cannot be sent{}", causes(error))),
                None => Self::unreachable(format!("the server cannot be reached{}", causes(error))),
            },
            _ => credentials(error)
                .unwrap_or_else(|| Self::local(false, format!("the request cannot be made{}", causes(error)))),
        }
    }

    /// No answer came within `limit`.
    pub(super) fn silent(limit: Duration) -> Self {
        Self::unreachable(format!("no answer within {} s", limit.as_secs().max(1)))
    }

    /// A fault found on this side.
    pub(super) fn local(transient: bool, text: impl Into<String>) -> Self {
        Self { code: String::new(), transient, tries: 1, text: text.into(), hint: "" }
    }

    fn unreachable(text: String) -> Self {
        Self { hint: "check store.endpoint and the network", ..Self::local(true, text) }
    }

    fn answered(status: u16, code: Option<&str>, message: Option<&str>) -> Self {
        let code = code.unwrap_or(if status == 403 { "AccessDenied" } else { "" });
        let text = match (code, message.unwrap_or_default()) {
            ("", "") => format!("the server answered {status}"),
            (code, "") => format!("the server answered {status} {code}"),
            (code, message) => format!("the server answered {status} {code}, {}", message.trim_end_matches('.')),
        };
        let transient = matches!(status, 408 | 429 | 500 | 502..=504)
            || (500..600).contains(&status) && status != 501 && code.is_empty()
            || TRANSIENT.contains(&code);
        Self { code: code.into(), transient, tries: 1, text, hint: hint(status, code) }
    }

    /// Whether the server says that there is no such object (and not: no such bucket).
    pub(super) fn no_such_key(&self) -> bool {
        matches!(self.code.as_str(), "NoSuchKey" | "NotFound")
    }

    /// The sentence for a person.
    pub(super) fn text(&self) -> String {
        let mut text = self.text.clone();
        if self.tries > 1 {
            text.push_str(&format!(" (tried {} times)", self.tries));
        }
        if !self.hint.is_empty() {
            text.push_str("; ");
            text.push_str(self.hint);
        }
        text
    }
}

/// Errors that pass, whatever status they come with: a 200 may carry one, too.
const TRANSIENT: [&str; 9] = [
    "InternalError",
    "InternalServerError",
    "ServiceUnavailable",
    "SlowDown",
    "RequestTimeout",
    "RequestThrottled",
    "Throttling",
    "OperationAborted",
    "ConditionalRequestConflict",
];

fn hint(status: u16, code: &str) -> &'static str {
    match code {
        "NoSuchBucket" => "create the bucket or correct store.url",
        "AccessDenied" | "AllAccessDisabled" => {
            "the credentials must be allowed to list, read, write and delete below store.url"
        }
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidClientTokenId" | "InvalidToken" => {
            "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile or role that is used instead"
        }
        "ExpiredToken" | "TokenRefreshRequired" => "the session has ended: fetch new credentials",
        "RequestTimeTooSkewed" => "set this machine's clock",
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => "the bucket lies in another region: set store.region",
        "InvalidBucketName" => "correct store.url",
        _ if status == 301 => "the bucket lies in another region: set store.region",
        _ => "",
    }
}

/// The failure when it was the credentials that could not be had.
fn credentials(error: &(dyn StdError + 'static)) -> Option<Failure> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(reason) = cause.downcast_ref::<CredentialsError>() {
            let text = "AWS's credentials cannot be had";
            return Some(match reason {
                CredentialsError::CredentialsNotLoaded(_) => Failure {
                    hint: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or give this machine or \
                           service account a role",
                    ..Failure::local(false, "there are no credentials")
                },
                CredentialsError::InvalidConfiguration(_) => Failure {
                    hint: "check the files ~/.aws/config and ~/.aws/credentials and the variables AWS_*",
                    ..Failure::local(false, format!("{text}{}", causes(cause)))
                },
                // The token service or the instance's own one may be back in a moment.
                _ => Failure::local(true, format!("{text}{}", causes(cause))),
            });
        }
        next = cause.source();
    }
    None
}

/// The causes of an error as `: a: b`. Each says more than the one before, and none repeats it.
fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_passes_from_what_stays() {
        for (status, code) in [(500, None), (503, Some("SlowDown")), (400, Some("RequestTimeout")), (429, None)] {
            assert!(Failure::answered(status, code, None).transient, "{status}");
        }
        for (status, code) in [(403, None), (404, Some("NoSuchBucket")), (501, Some("NotImplemented")), (412, None)] {
            assert!(!Failure::answered(status, code, None).transient, "{status}");
        }
        assert!(Failure::answered(200, Some("InternalError"), None).transient);
    }

    #[test]
    fn says_what_to_do() {
        let failure = Failure::answered(404, Some("NoSuchBucket"), Some("The bucket does not exist."));
        assert_eq!(
            failure.text(),
            "the server answered 404 NoSuchBucket, The bucket does not exist; create the bucket or correct store.url"
        );
    }
}
