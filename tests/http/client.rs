//! A client that says exactly what it is told to say: TLS as every client's, HTTP by hand.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where a server is and whom to trust.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    config: Arc<ClientConfig>,
}

impl Endpoint {
    pub(crate) fn new(address: SocketAddr, trust_bundle: &str, alpn: &[&[u8]]) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(trust_bundle.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Self {
            address,
            config: Arc::new(config),
        }
    }

    /// Connects under a name; the name is what the server is asked for and must prove.
    pub(crate) async fn connect(&self, name: &str) -> io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::clone(&self.config))
            .connect(name, tcp)
            .await
    }

    pub(crate) async fn http1(&self, name: &str) -> Http1 {
        Http1 {
            stream: self.connect(name).await.unwrap(),
            buffer: Vec::new(),
        }
    }
}

/// One HTTP/1.1 connection.
pub(crate) struct Http1 {
    pub(crate) stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Azure's `error.code`, and `error.innererror.code` after a slash where there is one.
    pub(crate) fn code(&self) -> String {
        let json = self.json();
        let code = json["error"]["code"]
            .as_str()
            .unwrap_or_else(|| panic!("no code: {json}"));
        assert!(
            !json["error"]["message"].as_str().unwrap_or_default().is_empty(),
            "no message: {json}"
        );
        match json["error"]["innererror"]["code"].as_str() {
            Some(inner) => format!("{code}/{inner}"),
            None => code.to_owned(),
        }
    }
}

impl Http1 {
    /// Sends bytes and reads one answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.send(request).await?;
        self.answer(false).await
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Reads one answer; one to HEAD has no body, whatever its length says.
    pub(crate) async fn answer(&mut self, to_head: bool) -> io::Result<Answer> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or_default();
        let mut answer = Answer {
            status,
            head,
            body: Vec::new(),
        };
        let length: usize = answer
            .header("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or_default();
        let length = if to_head { 0 } else { length };
        while self.buffer.len() < end + length {
            self.more().await?;
        }
        answer.body = self.buffer[end..end + length].to_vec();
        self.buffer.drain(..end + length);
        Ok(answer)
    }

    /// Whether the server ends the connection within some time, with no more answers.
    pub(crate) async fn is_closed_within(&mut self, time: Duration) -> bool {
        let end = async { while self.more().await.is_ok() {} };
        tokio::time::timeout(time, end).await.is_ok()
    }

    async fn more(&mut self) -> io::Result<()> {
        self.buffer.reserve(16 * 1024);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// A well-formed HTTP/1.1 request.
pub(crate) fn request(method: &str, target: &str, host: &str, token: Option<&str>, body: &[u8]) -> Vec<u8> {
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n");
    if let Some(token) = token {
        request.push_str(&format!("Authorization: Bearer {token}\r\n"));
    }
    if !body.is_empty() || matches!(method, "PUT" | "PATCH" | "POST") {
        request.push_str(&format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        ));
    }
    request.push_str("\r\n");
    let mut request = request.into_bytes();
    request.extend_from_slice(body);
    request
}
