//! The owner of a managed server: it starts it, watches it, starts it again when it died, and takes
//! orders one at a time.

use std::time::Duration;

use rustix::process::Signal;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{
    Deciders, ManagedConfig, ManagedError, ask,
    config::{Keys, render},
    launch::{Running, launch, put, reloads},
    paths::{Paths, find},
    process::last_words,
    server_name,
};
use crate::ConnectConfig;

const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// A server that ran for so long is not at fault for having died before.
const SOUND_AFTER: Duration = Duration::from_secs(60);
/// A lame duck lets its clients go within 30 s.
const LAME_DUCK_WITHIN: Duration = Duration::from_secs(40);
const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// Orders that wait.
const ORDERS_MAX: usize = 16;

/// How the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    Ready,
    /// It died, or does not become ready; it is being tried again.
    Down {
        why: String,
    },
    /// Ended on request.
    Stopped,
}

/// How a server is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Hands over what it leads, and lets its clients go one by one.
    LameDuck,
    Now,
}

enum Order {
    Update(Box<ManagedConfig>, oneshot::Sender<Result<(), ManagedError>>),
    RemovePeer(String, oneshot::Sender<Result<(), ManagedError>>),
    Deciders(oneshot::Sender<Result<Deciders, ManagedError>>),
    Stop(Stop, oneshot::Sender<Result<(), ManagedError>>),
}

/// A handle to a server that stapes runs. Dropping it leaves the server running, for the daemon that
/// comes next.
#[derive(Debug)]
pub struct ManagedServer {
    config: watch::Receiver<ManagedConfig>,
    status: watch::Receiver<Status>,
    orders: mpsc::Sender<Order>,
}

impl ManagedServer {
    /// Takes over the server that runs, or starts one, and watches it. It is ready when this returns,
    /// unless it has to wait for the others of its cluster: then [`Self::ready`] waits with it.
    ///
    /// # Errors
    /// When it cannot be started. Nothing runs then, and the same may be tried again.
    pub async fn start(config: ManagedConfig) -> Result<Self, ManagedError> {
        let paths = Paths::new(&config.dir);
        let (first, status) = match launch(&config, &paths).await {
            Ok(running) => (Some(running), Status::Ready),
            Err(error @ ManagedError::NotReady { answers: true, .. }) => {
                (None, Status::Down { why: ask::because(&error) })
            }
            Err(error) => return Err(error),
        };
        let (config_sender, config) = watch::channel(config);
        let (status_sender, status) = watch::channel(status);
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        let supervisor = Supervisor {
            config: config_sender,
            status: status_sender,
            orders: inbox,
            paths,
            pause: PAUSE_MIN,
        };
        tokio::spawn(supervisor.run(first));
        Ok(Self { config, status, orders })
    }

    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Waits until the server is ready.
    ///
    /// # Errors
    /// When it is not within `limit`: why.
    pub async fn ready(&self, limit: Duration) -> Result<(), ManagedError> {
        let mut status = self.status.clone();
        let ready = status.wait_for(|status| *status == Status::Ready);
        match tokio::time::timeout(limit, ready).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(_)) => return Err(ManagedError::Ended),
            Err(_) => {}
        }
        let why = match &*self.status.borrow() {
            Status::Down { why } => why.clone(),
            Status::Ready | Status::Stopped => "it was stopped".to_owned(),
        };
        Err(ManagedError::NotReady { waited: limit, answers: false, why })
    }

    /// How this node reaches the log: as itself, by its own server first.
    #[must_use]
    pub fn connection(&self) -> ConnectConfig {
        ask::node_connection(&self.config.borrow())
    }

    /// How this node makes and changes streams; by its own server only.
    #[must_use]
    pub fn keeper_connection(&self) -> ConnectConfig {
        let config = self.config.borrow();
        ask::own_connection(&config, &Paths::new(&config.dir).keeper_seed, "keeper")
    }

    /// Gives the server another configuration: nodes and peers come and go without a restart; another
    /// role or address restarts it.
    ///
    /// # Errors
    /// When the server refuses it; it goes on with the old one.
    pub async fn update(&self, config: ManagedConfig) -> Result<(), ManagedError> {
        self.order(|answer| Order::Update(Box::new(config), answer)).await
    }

    /// Takes a node's server, which does not come back, out of those that decide.
    ///
    /// # Errors
    /// When too few servers are there, or it is not one of them.
    pub async fn remove_peer(&self, node: stapes_core::ids::NodeId) -> Result<(), ManagedError> {
        self.order(|answer| Order::RemovePeer(server_name(node), answer)).await
    }

    /// The servers that decide together, as this node's server sees them.
    ///
    /// # Errors
    /// When this node's server is down, or is a relay.
    pub async fn deciders(&self) -> Result<Deciders, ManagedError> {
        self.order(Order::Deciders).await
    }

    /// Ends the server, and the watch over it.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(self, how: Stop) -> Result<(), ManagedError> {
        self.order(|answer| Order::Stop(how, answer)).await
    }

    async fn order<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, ManagedError>>) -> Order,
    ) -> Result<T, ManagedError> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(order(answer)).await.map_err(|_| ManagedError::Ended)?;
        answered.await.map_err(|_| ManagedError::Ended)?
    }
}

struct Supervisor {
    config: watch::Sender<ManagedConfig>,
    status: watch::Sender<Status>,
    orders: mpsc::Receiver<Order>,
    paths: Paths,
    pause: Duration,
}

/// What a step of the supervisor leads to.
enum Next {
    Running(Box<Running>),
    Down(String),
    Over,
}

impl Supervisor {
    async fn run(mut self, first: Option<Running>) {
        let mut next = match first {
            Some(running) => Next::Running(Box::new(running)),
            None => Next::Down("it waits for the others of its cluster".to_owned()),
        };
        loop {
            next = match next {
                Next::Running(running) => {
                    self.status.send_replace(Status::Ready);
                    self.watch(*running).await
                }
                Next::Down(why) => self.again(why).await,
                Next::Over => return,
            };
        }
    }

    /// Until the server dies or an order changes what it is.
    async fn watch(&mut self, mut running: Running) -> Next {
        let since = Instant::now();
        loop {
            let order = tokio::select! {
                order = self.orders.recv() => order,
                () = running.process.ended() => {
                    if since.elapsed() > SOUND_AFTER {
                        self.pause = PAUSE_MIN;
                    }
                    let why = last_words(&self.paths.log);
                    tracing::error!(pid = running.process.pid(), why, "nats-server died");
                    return Next::Down(format!("it died: {why}"));
                }
            };
            match order {
                // Nobody holds the handle: the server is left to the next daemon.
                None => return Next::Over,
                Some(Order::RemovePeer(name, answer)) => {
                    let _ = answer.send(running.system.remove_peer(&name).await);
                }
                Some(Order::Deciders(answer)) => {
                    let expected = self.config.borrow().peers.len() + 1;
                    let _ = answer.send(running.system.deciders(expected).await);
                }
                Some(Order::Stop(how, answer)) => {
                    let ended = match how {
                        Stop::LameDuck => running.process.end(Signal::USR2, LAME_DUCK_WITHIN).await,
                        Stop::Now => running.process.end(Signal::TERM, ENDS_WITHIN).await,
                    };
                    self.status.send_replace(Status::Stopped);
                    let _ = answer.send(ended);
                    return Next::Over;
                }
                Some(Order::Update(config, answer)) => {
                    let (next, result) = self.update(*config, running).await;
                    let _ = answer.send(result);
                    match next {
                        Ok(same) => running = *same,
                        Err(why) => return Next::Down(why),
                    }
                }
            }
        }
    }

    /// The server after an update, or why there is none; and what came of the update.
    async fn update(
        &mut self,
        config: ManagedConfig,
        running: Running,
    ) -> (Result<Box<Running>, String>, Result<(), ManagedError>) {
        let prepared = async {
            let text = render(&config, &self.paths, &Keys::ensure(&self.paths)?)?;
            let old = find(&self.paths.config)?.unwrap_or_default();
            Ok::<_, ManagedError>((text, old))
        };
        let (text, old) = match prepared.await {
            Ok(prepared) => prepared,
            Err(error) => return (Ok(Box::new(running)), Err(error)),
        };
        if reloads(&old, &text) {
            let taken = self.reload(&config, &running, &old, &text).await;
            if taken.is_ok() {
                self.config.send_replace(config);
            }
            return (Ok(Box::new(running)), taken);
        }
        tracing::info!("nats-server is restarted for its new configuration");
        let ended = running.process.end(Signal::TERM, ENDS_WITHIN).await;
        self.config.send_replace(config);
        if let Err(error) = ended {
            return (Err(ask::because(&error)), Err(error));
        }
        let config = self.config.borrow().clone();
        match launch(&config, &self.paths).await {
            Ok(running) => (Ok(Box::new(running)), Ok(())),
            Err(error) => (Err(ask::because(&error)), Err(error)),
        }
    }

    async fn reload(
        &self,
        config: &ManagedConfig,
        running: &Running,
        old: &str,
        text: &str,
    ) -> Result<(), ManagedError> {
        if old == text {
            return Ok(());
        }
        put(config, &self.paths, text).await?;
        let reloaded = running.system.reload().await;
        if reloaded.is_err() {
            // What it goes on with is what it shall find when it starts again.
            put(config, &self.paths, old).await?;
        }
        reloaded
    }

    /// Pauses, then starts the server again; orders are taken meanwhile.
    async fn again(&mut self, why: String) -> Next {
        self.status.send_replace(Status::Down { why });
        let until = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        loop {
            let order = tokio::select! {
                order = self.orders.recv() => order,
                () = tokio::time::sleep_until(until) => break,
            };
            match order {
                None => return Next::Over,
                Some(Order::RemovePeer(_, answer)) => {
                    let _ = answer.send(Err(ManagedError::Down));
                }
                Some(Order::Deciders(answer)) => {
                    let _ = answer.send(Err(ManagedError::Down));
                }
                Some(Order::Stop(_, answer)) => {
                    let ended = super::process::end_recorded(&self.paths.record).await;
                    self.status.send_replace(Status::Stopped);
                    let _ = answer.send(ended);
                    return Next::Over;
                }
                Some(Order::Update(config, answer)) => {
                    // It is taken when the server starts.
                    self.config.send_replace(*config);
                    let _ = answer.send(Ok(()));
                }
            }
        }
        let config = self.config.borrow().clone();
        match launch(&config, &self.paths).await {
            Ok(running) => Next::Running(Box::new(running)),
            Err(error) => {
                if let ManagedError::NotReady { answers: true, .. } = error {
                    // It needs no other start, only the others: they are looked for all the time.
                    self.pause = PAUSE_MIN;
                }
                let why = ask::because(&error);
                tracing::warn!(why, "nats-server is tried again");
                Next::Down(why)
            }
        }
    }
}
