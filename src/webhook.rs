//! Tells somebody how a night ended: JSON with a `text`, as Slack and its kin take it.

use std::time::Duration;

use serde_json::json;
use tracing::{info, warn};

use crate::config::WebhookSettings;

/// Sends `text` and waits for at most the settings' time-out. What goes wrong is logged and nothing more:
/// a night does not fail because nobody listens.
pub async fn tell(settings: &WebhookSettings, text: &str) {
    if settings.url.is_empty() {
        return;
    }
    let limit = Duration::from_secs(settings.timeout);
    let (url, body) = (settings.url.clone(), json!({ "text": escaped(text) }));
    let sent = tokio::task::spawn_blocking(move || post(&url, &body, limit));
    // The thread has a limit of its own; this one holds even where a name server does not keep it.
    let outcome = match tokio::time::timeout(limit + Duration::from_secs(1), sent).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err("the thread that sent it broke off".into()),
        Err(_) => Err(format!("no answer within {} s", settings.timeout)),
    };
    match outcome {
        Ok(()) => info!("told {}", masked(&settings.url)),
        Err(why) => warn!("the webhook {} was not told: {why}", masked(&settings.url)),
    }
}

/// What Slack would take for a link or a mention.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn post(url: &str, body: &serde_json::Value, limit: Duration) -> Result<(), String> {
    let config = ureq::Agent::config_builder().timeout_global(Some(limit)).build();
    let request = ureq::Agent::new_with_config(config).post(url).header("Content-Type", "application/json");
    match request.send(body.to_string()) {
        Ok(_) => Ok(()),
        // ureq's own words may hold the address, and the address is a secret.
        Err(ureq::Error::StatusCode(code)) => Err(format!("it answered {code}")),
        Err(ureq::Error::Timeout(_)) => Err(format!("no answer within {} s", limit.as_secs())),
        Err(ureq::Error::BadUri(_) | ureq::Error::Http(_)) => Err("webhook.url is no address".into()),
        Err(_) => Err("it cannot be reached".into()),
    }
}

/// An address without what makes it a secret: `https://hooks.slack.com/***`.
pub fn masked(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return if url.is_empty() { String::new() } else { "***".into() };
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}/***")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::time::Instant;

    fn settings(url: String, timeout: u64) -> WebhookSettings {
        WebhookSettings { url, timeout }
    }

    #[tokio::test]
    async fn sends_what_slack_takes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/services/T0/secret", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let (mut head, mut length) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                let start = head.len();
                stream.read_line(&mut head).unwrap();
                if let Some(value) = head[start..].to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            (head, serde_json::from_slice::<serde_json::Value>(&body).unwrap())
        });
        tell(&settings(url, 20), "roses: \"promoted\" <&>").await;
        let (head, body) = server.join().unwrap();
        assert!(head.starts_with("POST /services/T0/secret ") && head.to_lowercase().contains("application/json"));
        assert_eq!(body, json!({ "text": "roses: \"promoted\" &lt;&amp;&gt;" }));
    }

    #[tokio::test]
    async fn one_that_hangs_refuses_or_is_nonsense_is_given_up() {
        // It accepts and never answers.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hanging = format!("http://{}/", listener.local_addr().unwrap());
        let began = Instant::now();
        tell(&settings(hanging, 1), "x").await;
        assert!(began.elapsed() < Duration::from_secs(60), "it would have hung for ever");
        for url in ["http://127.0.0.1:1/", "no address", "ftp://x/y", ""] {
            tell(&settings(url.into(), 2), "x").await;
        }
    }

    #[test]
    fn an_address_is_a_secret() {
        assert_eq!(masked("https://hooks.slack.com/services/T0/B0/xyz"), "https://hooks.slack.com/***");
        assert_eq!(masked("https://me:pass@host:1/?token=t"), "https://host:1/***");
        assert_eq!((masked("").as_str(), masked("secret").as_str()), ("", "***"));
    }
}
