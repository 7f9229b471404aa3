//! Who listens to a stream, over either kind of socket; and who fills its topic.

use std::collections::HashMap;
use std::time::Duration;

use common::kafka::{
    GroupOffsets, Headers, Outgoing, TopicPartition, TransactionalProducer, ensure_topics,
};
use common::topic::{self, Topic};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::installation::{Gateway, Installation};

/// Long enough for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    WebSocket,
    Sse,
}

impl Kind {
    pub const BOTH: [Self; 2] = [Self::WebSocket, Self::Sse];
}

pub enum Listener {
    WebSocket(Box<WebSocketStream<TcpStream>>),
    Sse(Events),
}

/// What a socket says next.
#[derive(Debug, PartialEq)]
pub enum Heard {
    Json(Value),
    /// The code, where the kind of socket has one.
    End(Option<u16>),
}

impl Listener {
    /// Connects with a key in the header that every client can set.
    pub async fn open(gateway: &Gateway, kind: Kind, path: &str, key: &str) -> Self {
        match kind {
            Kind::WebSocket => {
                let headers = [("x-api-key", key)];
                let (socket, _) = web_socket(gateway, path, &headers).await.unwrap();
                Self::WebSocket(Box::new(socket))
            }
            Kind::Sse => Self::Sse(Events::open(gateway, path, &[("x-api-key", key)]).await),
        }
    }

    pub async fn next(&mut self) -> Heard {
        let next = async {
            match self {
                Self::Sse(events) => match events.next().await {
                    Some((_, json)) => Heard::Json(json),
                    None => Heard::End(None),
                },
                Self::WebSocket(socket) => loop {
                    match socket.next().await {
                        Some(Ok(Message::Text(text))) => {
                            break Heard::Json(serde_json::from_str(&text).unwrap());
                        }
                        Some(Ok(Message::Close(frame))) => {
                            let _answered = socket.close().await;
                            break Heard::End(frame.map(|CloseFrame { code, .. }| code.into()));
                        }
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => break Heard::End(None),
                    }
                },
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("something was to come")
    }

    pub async fn json(&mut self) -> Value {
        match self.next().await {
            Heard::Json(json) => json,
            Heard::End(code) => panic!("the socket ended: {code:?}"),
        }
    }

    /// How it ended, once it did; what came before is thrown away.
    pub async fn end(&mut self) -> Option<u16> {
        loop {
            if let Heard::End(code) = self.next().await {
                return code;
            }
        }
    }
}

pub type Refused = tokio_tungstenite::tungstenite::Error;

/// A WebSocket whose client takes little that it does not read.
pub async fn web_socket(
    gateway: &Gateway,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<(WebSocketStream<TcpStream>, Response), Refused> {
    let url = format!("ws://{}{path}", gateway.address);
    let mut request = url.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 << 10).unwrap();
    let stream = socket.connect(gateway.address).await.unwrap();
    tokio_tungstenite::client_async(request, stream).await
}

/// Server-Sent Events, read as the standard says.
pub struct Events {
    response: reqwest::Response,
    received: String,
    pub last_id: String,
}

impl Events {
    pub async fn open(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut request = gateway.client.get(gateway.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, received: String::new(), last_id: String::new() }
    }

    /// The next event: its id and its data.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            while let Some((block, rest)) = self.received.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.received = rest;
                let field = |name| block.lines().find_map(|line| line.strip_prefix(name));
                if let Some(id) = field("id: ") {
                    id.clone_into(&mut self.last_id);
                }
                if let Some(data) = field("data: ") {
                    let data = serde_json::from_str(data).unwrap();
                    return Some((self.last_id.clone(), data));
                }
            }
            let chunk = self.response.chunk().await.ok()??;
            self.received.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

/// Stands for the processor or the alerter: writes a topic as they do, in transactions.
pub struct Writer {
    producer: TransactionalProducer,
    source: TopicPartition,
    topic: String,
    written: i64,
}

impl Writer {
    pub async fn of(tallyman: &Installation, topic: &Topic) -> Self {
        let kafka = tallyman.kafka();
        ensure_topics(&kafka, &[topic, &topic::USER_ACTIONS]).await.unwrap();
        let offsets = GroupOffsets::of(&kafka, tallyman.topic("writer").as_str()).unwrap();
        let topic = tallyman.topic(&topic.name);
        let producer = TransactionalProducer::fence(&kafka, &topic, offsets).await.unwrap();
        let source = TopicPartition { topic: tallyman.topic("user-actions"), partition: 0 };
        Self { producer, source, topic, written: 0 }
    }

    /// Writes these in one transaction: key and value each.
    pub async fn write(&mut self, records: &[(&str, String)]) {
        self.write_with(records, &Headers::default()).await;
    }

    pub async fn write_with(&mut self, records: &[(&str, String)], headers: &Headers) {
        self.producer.begin().unwrap();
        for (key, value) in records {
            let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
            let (topic, headers) = (&self.topic, &headers.pairs().collect::<Vec<_>>());
            let record = Outgoing { topic, partition: None, key, value, headers };
            self.producer.send(&record).await.unwrap();
        }
        self.written += records.len() as i64;
        self.producer.commit(&self.source, self.written).await.unwrap();
    }
}

/// How often each text occurs.
pub fn tally<'a>(texts: impl IntoIterator<Item = &'a str>) -> HashMap<&'a str, u32> {
    let mut counts = HashMap::new();
    texts.into_iter().for_each(|text| *counts.entry(text).or_default() += 1);
    counts
}
