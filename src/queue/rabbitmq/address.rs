//! Where the broker is and how to prove who one is. Nothing here prints a password.

use std::fs;

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::QueueSettings;
use crate::error::{Context, Error, Kind, Result};

/// Seconds between signs of life. A connection silent for two to three times as long is given up by either side,
/// and somebody else leads within half a minute.
const HEARTBEAT: u16 = 8;

/// The broker's address without what is secret about it.
#[derive(Clone)]
pub(super) struct Address {
    pub uri: AMQPUri,
    pub tls: Option<std::sync::Arc<RustlsConnector>>,
}

impl Address {
    /// Reads `queue.url` and the files that `queue.ca`, `queue.certificate` and `queue.key` name.
    pub fn new(settings: &QueueSettings) -> Result<Self> {
        let uri = parse(&settings.url)?;
        let tls = match uri.scheme {
            AMQPScheme::AMQPS => Some(std::sync::Arc::new(connector(settings)?)),
            AMQPScheme::AMQP => {
                let files = [("ca", &settings.ca), ("certificate", &settings.certificate), ("key", &settings.key)];
                if let Some((name, _)) = files.iter().find(|(_, path)| !path.is_empty()) {
                    return Err(Error::usage(format!(
                        "queue.{name} is set, but queue.url does not begin with amqps://"
                    )));
                }
                None
            }
        };
        Ok(Self { uri, tls })
    }

    /// Host, port and virtual host, for people.
    pub fn place(&self) -> String {
        format!("{}:{}, virtual host {}", self.uri.authority.host, self.uri.authority.port, self.uri.vhost)
    }

    /// The user's name, for people.
    pub fn user(&self) -> &str {
        &self.uri.authority.userinfo.username
    }
}

fn parse(url: &str) -> Result<AMQPUri> {
    // The parser's own message may quote the URL and with it the password.
    let wrong = || Error::usage("queue.url is no broker's URL: give amqp://user:password@host:5672/vhost or amqps://…");
    let mut uri: AMQPUri = url.parse().map_err(|_| wrong())?;
    if let Some(host) = literal_address(url) {
        uri.authority.host = host.to_owned();
    }
    if uri.authority.host.is_empty() {
        return Err(wrong());
    }
    if uri.vhost.is_empty() {
        uri.vhost = "/".to_owned();
    }
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    Ok(uri)
}

/// The IPv6 address in brackets, which the parser would take for the local host.
fn literal_address(url: &str) -> Option<&str> {
    let authority = url.split("://").nth(1)?.split(['/', '?']).next()?;
    authority.rsplit('@').next()?.strip_prefix('[')?.split(']').next()
}

fn connector(settings: &QueueSettings) -> Result<RustlsConnector> {
    let config = if settings.ca.is_empty() {
        RustlsConnectorConfig::new_with_native_certs()
            .context(Kind::Queue, || "no certificate authorities on this system; name a file in queue.ca".into())?
    } else {
        RustlsConnectorConfig::default().with_parsable_certificates(certificates("queue.ca", &settings.ca)?)
    };
    match (settings.certificate.is_empty(), settings.key.is_empty()) {
        (true, true) => config.connector_with_no_client_auth(),
        (false, false) => {
            let chain = certificates("queue.certificate", &settings.certificate)?;
            let key = PrivateKeyDer::from_pem_slice(&read("queue.key", &settings.key)?)
                .context(Kind::Usage, || format!("queue.key: {} holds no private key in PEM form", settings.key))?;
            config.connector_with_single_cert(chain, key)
        }
        _ => return Err(Error::usage("queue.certificate and queue.key belong together: set both or none")),
    }
    .context(Kind::Usage, || "the certificates of queue.ca, queue.certificate and queue.key are unusable".into())
}

fn certificates(setting: &str, path: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(&read(setting, path)?)
        .collect::<Result<_, _>>()
        .context(Kind::Usage, || format!("{setting}: {path} is no PEM file"))?;
    if found.is_empty() {
        return Err(Error::usage(format!("{setting}: {path} holds no certificate")));
    }
    Ok(found)
}

fn read(setting: &str, path: &str) -> Result<Vec<u8>> {
    fs::read(path).context(Kind::Usage, || format!("{setting}: {path} cannot be read"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses() {
        let uri = parse("amqp://me:secret@[::1]:5000/a%2fb").unwrap();
        assert_eq!((uri.authority.host.as_str(), uri.authority.port, uri.vhost.as_str()), ("::1", 5000, "a/b"));
        assert_eq!(uri.query.heartbeat, Some(HEARTBEAT));
        let uri = parse("amqps://host/?heartbeat=5").unwrap();
        assert_eq!((uri.authority.port, uri.vhost.as_str(), uri.query.heartbeat), (5671, "/", Some(5)));
    }

    #[test]
    fn repeats_no_password() {
        for url in ["http://me:secret@host/", "amqp:me:secret@host", "secret", "amqp://me:secret@host:port/"] {
            assert!(!parse(url).unwrap_err().chain().contains("secret"), "{url}");
        }
    }
}
