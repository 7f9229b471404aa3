//! TLS for those who come in: the certificate of two files, read again when they change.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::TlsConfig;

/// How often the files are looked at: a renewed certificate has days of overlap with its former one.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A peer that does not finish its handshake holds a connection for nothing.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Negotiated by ALPN, in our order.
const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    files: Arc<CertificateFiles>,
}

impl Tls {
    /// Nothing when no certificate is configured.
    pub fn load(config: &TlsConfig) -> anyhow::Result<Option<Self>> {
        let (Some(certificates), Some(key)) = (&config.gateway_tls_cert, &config.gateway_tls_key)
        else {
            return Ok(None);
        };
        let provider = Arc::new(ring::default_provider());
        let files = CertificateFiles::read(certificates.clone(), key.clone(), provider.clone())?;
        let files = Arc::new(files);
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(files.clone());
        server.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
        Ok(Some(Self { acceptor: TlsAcceptor::from(Arc::new(server)), files }))
    }

    /// The handshake of one connection.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        tokio::time::timeout(HANDSHAKE_TIME_MAX, self.acceptor.accept(stream))
            .await
            .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Takes changed files into use. New connections get the new certificate, open ones keep theirs;
    /// files that cannot be used are told once, and the former certificate stays.
    pub async fn keep_fresh(&self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut seen = self.files.changed_at();
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let now = self.files.changed_at();
            if now == seen {
                continue;
            }
            seen = now;
            match self.files.read_again() {
                Ok(()) => info!("the TLS certificate was read again"),
                Err(error) => warn!("the former TLS certificate stays in use: {error:#}"),
            }
        }
        Ok(())
    }
}

/// Whether the peer of this connection has chosen HTTP/2.
pub fn chose_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(HTTP_2)
}

#[derive(Debug)]
struct CertificateFiles {
    certificates: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<CertifiedKey>>,
}

impl CertificateFiles {
    fn read(
        certificates: PathBuf,
        key: PathBuf,
        provider: Arc<CryptoProvider>,
    ) -> anyhow::Result<Self> {
        let current = RwLock::new(certified_key(&certificates, &key, &provider)?);
        Ok(Self { certificates, key, provider, current })
    }

    fn read_again(&self) -> anyhow::Result<()> {
        let fresh = certified_key(&self.certificates, &self.key, &self.provider)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// When each file was written; a file that is away at the moment has no time.
    fn changed_at(&self) -> [Option<SystemTime>; 2] {
        [&self.certificates, &self.key]
            .map(|path| std::fs::metadata(path).and_then(|it| it.modified()).ok())
    }
}

impl ResolvesServerCert for CertificateFiles {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn certified_key(
    certificates: &PathBuf,
    key: &PathBuf,
    provider: &CryptoProvider,
) -> anyhow::Result<Arc<CertifiedKey>> {
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("read the certificates (PEM) in {}", certificates.display()))?;
    if chain.is_empty() {
        bail!("there is no certificate (PEM) in {}", certificates.display());
    }
    let key_der = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("read the private key (PEM) in {}", key.display()))?;
    let certified = CertifiedKey::from_der(chain, key_der, provider);
    match certified {
        Ok(certified) => Ok(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(_)) => bail!(
            "the key in {} does not belong to the certificate in {}",
            key.display(),
            certificates.display()
        ),
        Err(error) => Err(error).context("use the TLS certificate and its key"),
    }
}
