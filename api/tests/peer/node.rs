//! A node that serves, and what it has to send.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use stapes_api::{
    peer::{self, IsMember, PeerClient},
    tls::{TlsConfig, TlsListener},
};
use stapes_core::{
    ids::{InstanceId, NodeId, OperationId},
    port::{
        DriverError,
        peer::{PeerAddress, Peers, Sources, Wanted},
    },
};
use tokio::sync::{mpsc, oneshot};

use crate::certificates::{Authority, node};

/// What a source does, chosen by the operation that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    Send {
        bytes: usize,
    },
    /// Ends well, and says another number.
    Miscount {
        bytes: usize,
    },
    FailAfter {
        bytes: usize,
    },
    Refuse,
    /// Takes its time before the first byte.
    Wait,
}

impl Plan {
    const fn bytes(self) -> usize {
        match self {
            Self::Send { bytes } | Self::Miscount { bytes } | Self::FailAfter { bytes } => bytes,
            Self::Refuse | Self::Wait => 8,
        }
    }

    pub(crate) fn wanted(self) -> Wanted {
        let operation = OperationId::derive(&[&format!("{self:?}")]);
        Wanted::Checkpoint { instance: InstanceId::derive(&["peer"]), operation }
    }
}

#[derive(Debug)]
struct Planned {
    plan: Plan,
    content: Arc<Vec<u8>>,
    outcomes: mpsc::UnboundedSender<Result<u64, DriverError>>,
}

#[async_trait]
impl Sources for Planned {
    async fn send(&self, wanted: &Wanted, into: OwnedFd) -> Result<u64, DriverError> {
        assert_eq!(*wanted, self.plan.wanted());
        let (plan, content) = (self.plan, self.content.clone());
        let outcome = tokio::task::spawn_blocking(move || act(plan, &content, into)).await.unwrap();
        self.outcomes.send(outcome.clone()).unwrap();
        outcome
    }
}

pub(crate) fn content(bytes: usize) -> Vec<u8> {
    (0..bytes as u64 / 8)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect()
}

fn act(plan: Plan, content: &[u8], into: OwnedFd) -> Result<u64, DriverError> {
    let mut pipe = File::from(into);
    let mut write = |bytes: usize| {
        let written = pipe.write_all(&content[..bytes]);
        written.map_err(|error| DriverError::Failed(error.to_string()))
    };
    match plan {
        Plan::Send { bytes } => write(bytes).map(|()| bytes as u64),
        Plan::Miscount { bytes } => write(bytes).map(|()| bytes as u64 + 1),
        Plan::FailAfter { bytes } => {
            write(bytes)?;
            Err(DriverError::Failed("the disk is gone".into()))
        }
        Plan::Refuse => Err(DriverError::NotFound("checkpoint".into())),
        Plan::Wait => {
            // Longer than between two pulses.
            std::thread::sleep(Duration::from_secs(3));
            write(8).map(|()| 8)
        }
    }
}

pub(crate) struct Node {
    pub(crate) address: PeerAddress,
    pub(crate) outcomes: mpsc::UnboundedReceiver<Result<u64, DriverError>>,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<()>,
}

impl Node {
    /// Node 1, with a certificate of the authority.
    pub(crate) async fn serve(authority: &Authority, plan: Plan, is_member: IsMember) -> Self {
        Self::serve_with(authority.tls(node(1)), plan, is_member).await
    }

    pub(crate) async fn serve_with(tls: TlsConfig, plan: Plan, is_member: IsMember) -> Self {
        let (outcome, outcomes) = mpsc::unbounded_channel();
        let content = Arc::new(content(plan.bytes()));
        let planned = Planned { plan, content, outcomes: outcome };
        let router = peer::router(Arc::new(planned), is_member);
        let listener = TlsListener::bind("127.0.0.1:0", tls).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(listener.serve(router, async { drop(stopped.await) }));
        let address = PeerAddress { node: node(1), address };
        Self { address, outcomes, stop: Some(stop), served }
    }

    pub(crate) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.served.await.unwrap();
    }
}

pub(crate) fn everybody() -> IsMember {
    Arc::new(|_| true)
}

pub(crate) fn only(member: NodeId) -> IsMember {
    Arc::new(move |node| node == member)
}

/// Node 2, who asks.
pub(crate) fn client(authority: &Authority) -> PeerClient {
    PeerClient::new(authority.tls(node(2)), everybody())
}

/// All that comes out of the pipe.
pub(crate) async fn read(pipe: OwnedFd) -> Vec<u8> {
    let read = move || {
        let mut bytes = Vec::new();
        File::from(pipe).read_to_end(&mut bytes).unwrap();
        bytes
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

pub(crate) async fn fetch(
    client: &PeerClient,
    from: &PeerAddress,
    plan: Plan,
) -> Result<OwnedFd, DriverError> {
    client.fetch(from, &plan.wanted()).await
}
