//! Mutual TLS between services: both sides show a certificate of one authority.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

use crate::config::{Problem, Validate};

/// TLS between services. All three files, or none: then calls travel in the clear.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificate chain of this process (PEM), for serving and for calling.
    pub certificate: PathBuf,
    /// Private key of the certificate (PEM).
    pub key: PathBuf,
    /// Authority (PEM) whose certificates the other side must show.
    pub ca: PathBuf,
}

impl TlsConfig {
    /// Whether TLS is wanted.
    pub fn is_on(&self) -> bool {
        [&self.certificate, &self.key, &self.ca]
            .iter()
            .any(|path| !path.as_os_str().is_empty())
    }
}

impl Validate for TlsConfig {
    fn validate(&self) -> Vec<Problem> {
        if !self.is_on() {
            return Vec::new();
        }
        let files = [
            ("certificate", &self.certificate),
            ("key", &self.key),
            ("ca", &self.ca),
        ];
        let mut problems = Vec::new();
        for (key, path) in files {
            if path.as_os_str().is_empty() {
                let message = "must be set too: TLS needs certificate, key and ca";
                problems.push(Problem::new(key, message));
            } else if let Err(error) = fs::File::open(path) {
                let message = format!("{} cannot be read: {error}", path.display());
                problems.push(Problem::new(key, message));
            }
        }
        problems
    }
}

/// What one process shows and whom it believes. Cheap enough to clone.
#[derive(Clone)]
pub struct Tls {
    identity: Identity,
    authority: Certificate,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files; `None` when TLS is not wanted.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn load(config: &TlsConfig) -> anyhow::Result<Option<Self>> {
        if !config.is_on() {
            return Ok(None);
        }
        let tls = Self {
            identity: Identity::from_pem(read(&config.certificate)?, read(&config.key)?),
            authority: Certificate::from_pem(read(&config.ca)?),
        };
        // Found now, and not by those who call.
        tonic::transport::Server::builder()
            .tls_config(tls.server())
            .context("tls.certificate, tls.key and tls.ca cannot be used together")?;
        Ok(Some(tls))
    }

    /// For a server that lets in only callers with a certificate of the authority.
    pub(super) fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(self.identity.clone())
            .client_ca_root(self.authority.clone())
    }

    /// For a caller of `host`, whose certificate must bear that name.
    pub(super) fn client(&self, host: &str) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .identity(self.identity.clone())
            .ca_certificate(self.authority.clone())
            .domain_name(host)
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_configuration_is_told() {
        assert_eq!(TlsConfig::default().validate(), []);
        let half = TlsConfig {
            key: "no-such.key".into(),
            ..TlsConfig::default()
        };
        let keys: Vec<_> = half.validate().into_iter().map(|one| one.key).collect();
        assert_eq!(keys, ["certificate", "key", "ca"]);
    }
}
