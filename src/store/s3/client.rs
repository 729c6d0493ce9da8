//! The SDK's clients: one for each server, shared by all stores of the process.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Builder, RequestChecksumCalculation, ResponseChecksumValidation, SharedCredentialsProvider, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use tokio::sync::Mutex;

use crate::config::StoreSettings;
use crate::error::{Error, Result};

/// Where AWS's own tools go when nobody says where.
const REGION: &str = "us-east-1";

const CONNECT: Duration = Duration::from_secs(5);

/// A server and how to speak to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Server {
    /// `None`: AWS.
    endpoint: Option<String>,
    region: String,
    path_style: bool,
}

/// Keeps the connections, the credentials and what was read from AWS's files.
static CLIENTS: LazyLock<Mutex<HashMap<Server, Client>>> = LazyLock::new(Mutex::default);

static HTTP: LazyLock<SharedHttpClient> = LazyLock::new(|| {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
});

/// The client for the server that `settings` name, and the name of that server for messages.
pub(super) async fn shared(settings: &StoreSettings) -> Result<(Client, String)> {
    let server = Server::of(settings)?;
    let name = server.to_string();
    let mut clients = CLIENTS.lock().await;
    if let Some(client) = clients.get(&server) {
        return Ok((client.clone(), name));
    }
    let client = server.client(None).await;
    clients.insert(server, client.clone());
    Ok((client, name))
}

/// A client of its own with credentials that are given.
#[cfg(test)]
pub(super) async fn with(settings: &StoreSettings, credentials: SharedCredentialsProvider) -> Result<(Client, String)> {
    let server = Server::of(settings)?;
    Ok((server.client(Some(credentials)).await, server.to_string()))
}

impl Server {
    fn of(settings: &StoreSettings) -> Result<Self> {
        // The SDK would follow these variables in any case, but take the server for AWS.
        let from_aws = || ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].iter().find_map(|name| std::env::var(name).ok());
        let endpoint = Some(settings.endpoint.clone()).filter(|e| !e.is_empty()).or_else(from_aws);
        let endpoint = endpoint.filter(|e| !e.is_empty()).map(check).transpose()?;
        Ok(Self { path_style: settings.path_style && endpoint.is_some(), endpoint, region: settings.region.clone() })
    }

    async fn client(&self, credentials: Option<SharedCredentialsProvider>) -> Client {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(HTTP.clone());
        if !self.region.is_empty() {
            loader = loader.region(Region::new(self.region.clone()));
        } else if self.endpoint.is_some() {
            // The rest of AWS's chain asks the EC2 instance, whose region says nothing about this server.
            let files = ProfileFileRegionProvider::new();
            let chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new()).or_else(files);
            loader = loader.region(chain.or_else(Region::new(REGION)));
        }
        if let Some(credentials) = credentials {
            loader = loader.credentials_provider(credentials);
        }
        let aws = loader.load().await;
        let mut config = Builder::from(&aws)
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build())
            // A body that stalls is noticed in download.rs, where it can be resumed.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if aws.region().is_none() {
            config = config.region(Region::new(REGION));
        }
        if let Some(endpoint) = &self.endpoint {
            config = config
                .endpoint_url(endpoint)
                .force_path_style(self.path_style)
                // Older servers refuse the checksum headers that the SDK would add by itself.
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        }
        Client::from_conf(config.build())
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.endpoint, self.region.as_str()) {
            (Some(endpoint), _) => f.write_str(endpoint),
            (None, "") => f.write_str("AWS"),
            (None, region) => write!(f, "AWS in {region}"),
        }
    }
}

/// An endpoint is `http://host:port` or the same with `https`, perhaps with a path.
fn check(endpoint: String) -> Result<String> {
    let host = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
    let wrong = match host {
        _ if endpoint.contains('@') => {
            "store.endpoint must not hold credentials: they come from AWS's environment variables".into()
        }
        Some(host)
            if !host.is_empty()
                && !host.starts_with('/')
                && host.bytes().all(|b| b.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&b)) =>
        {
            return Ok(endpoint.trim_end_matches('/').into());
        }
        _ => format!("store.endpoint must look like http://host:port, not '{}'", endpoint.escape_debug()),
    };
    Err(Error::usage(wrong))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn refuses_what_is_no_endpoint() {
        for good in ["http://127.0.0.1:9000", "https://s3.example.org/", "http://[::1]:80/base"] {
            check(good.into()).unwrap();
        }
        for bad in ["host:9000", "ftp://host", "http://", "http:///x", "http://a b", "http://h?x"] {
            assert_eq!(check(bad.into()).unwrap_err().kind(), Kind::Usage, "{bad}");
        }
        assert!(!check("http://me:secret@host".into()).unwrap_err().chain().contains("secret"));
    }
}
