//! A connection on which a test decides when each byte goes.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::installation::Gateway;

pub struct Raw(TcpStream);

impl Raw {
    pub async fn connect(gateway: &Gateway) -> Self {
        Self(TcpStream::connect(gateway.address).await.unwrap())
    }

    pub async fn send(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// The head of a submission with these further header lines, without its body.
    pub async fn send_head(&mut self, gateway: &Gateway, lines: &[&str]) {
        let key = &gateway.write_key;
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        self.send(&format!(
            "POST /api/events HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n{lines}\r\n"
        ))
        .await;
    }

    /// What comes until this text has come; all of it when the connection ends before.
    pub async fn receive_until(&mut self, text: &str) -> String {
        let mut received = Vec::new();
        loop {
            let so_far = String::from_utf8_lossy(&received);
            if so_far.contains(text) {
                return so_far.into_owned();
            }
            if self.0.read_buf(&mut received).await.unwrap_or(0) == 0 {
                return String::from_utf8_lossy(&received).into_owned();
            }
        }
    }
}
