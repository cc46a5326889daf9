//! A connection that loses answers, and a server that is too old.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What the connections through a proxy are to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rules {
    /// What the server says is thrown away.
    muted: bool,
    /// Connections made before this many cuts are closed.
    cuts: u64,
}

/// Stands between a client and a server.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    rules: Arc<watch::Sender<Rules>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(server: &str) -> Self {
        let server: SocketAddr = server.trim_start_matches("nats://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let rules = Arc::new(watch::Sender::new(Rules::default()));
        let accepting = tokio::spawn({
            let rules = rules.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(pass(client, server, rules.subscribe()));
                }
            }
        });
        Self { address, rules, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// From now on the server is not heard.
    pub(crate) fn mute(&self) {
        self.rules.send_modify(|rules| rules.muted = true);
    }

    /// Closes all connections; new ones are heard again.
    pub(crate) fn cut(&self) {
        self.rules.send_modify(|rules| *rules = Rules { muted: false, cuts: rules.cuts + 1 });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(client: TcpStream, server: SocketAddr, mut rules: watch::Receiver<Rules>) {
    let cuts = rules.borrow().cuts;
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let hearing = rules.clone();
    let there = tokio::io::copy(&mut from_client, &mut to_server);
    let back = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count) = from_server.read(&mut buffer).await {
            if count == 0 {
                return;
            }
            let muted = hearing.borrow().muted;
            if !muted && to_client.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = there => {}
        () = back => {}
        _ = rules.wait_for(|rules| rules.cuts > cuts) => {}
    }
}

/// Greets as a server of that version does, and says nothing more than that it is there.
pub(crate) async fn pretend(version: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let Ok((mut client, _)) = listener.accept().await else { return };
        let info = format!(
            "INFO {{\"server_id\":\"old\",\"server_name\":\"old\",\"version\":\"{version}\",\
             \"proto\":1,\"headers\":true,\"jetstream\":true,\"max_payload\":2097152}}\r\n"
        );
        if client.write_all(info.as_bytes()).await.is_err() {
            return;
        }
        let mut buffer = vec![0; 4096];
        while client.read(&mut buffer).await.is_ok_and(|count| count > 0) {
            if client.write_all(b"PONG\r\n").await.is_err() {
                return;
            }
        }
    });
    format!("nats://{address}")
}
