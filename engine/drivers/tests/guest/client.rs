//! A client that counts: it sends the numbers in their order over one connection, and hears them
//! back; one that is missing, doubled or out of order is an error, as is the connection's end.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// The echo service.
const PORT: u16 = 7;
const EVERY: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Client {
    shared: Arc<Shared>,
    sender: Option<JoinHandle<u64>>,
    receiver: Option<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    heard: Mutex<Heard>,
}

struct Heard {
    count: u64,
    last: Instant,
    longest: Duration,
}

impl Client {
    /// Connects as soon as somebody listens.
    pub(crate) fn connect(address: Ipv4Addr) -> Self {
        let to = SocketAddr::from((address, PORT));
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match TcpStream::connect_timeout(&to, Duration::from_secs(1)) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "nobody listens: {error}"),
            }
        };
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let heard = Heard { count: 0, last: Instant::now(), longest: Duration::ZERO };
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), heard: Mutex::new(heard) });
        let sender = {
            let (shared, mut stream) = (Arc::clone(&shared), stream.try_clone().unwrap());
            std::thread::spawn(move || {
                let mut number = 0_u64;
                while !shared.stop.load(Ordering::Relaxed) {
                    stream.write_all(&number.to_be_bytes()).expect("the connection takes it");
                    number += 1;
                    std::thread::sleep(EVERY);
                }
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                number
            })
        };
        let receiver = {
            let (shared, mut stream) = (Arc::clone(&shared), stream);
            std::thread::spawn(move || {
                let mut bytes = [0; 8];
                let mut expected = 0_u64;
                while stream.read_exact(&mut bytes).is_ok() {
                    assert_eq!(u64::from_be_bytes(bytes), expected, "none is lost, none doubled");
                    expected += 1;
                    shared.hear();
                }
            })
        };
        let client = Self { shared, sender: Some(sender), receiver: Some(receiver) };
        client.await_numbers(10);
        client
    }

    fn await_numbers(&self, more: u64) {
        let count = || self.shared.heard.lock().unwrap().count;
        let wanted = count() + more;
        let deadline = Instant::now() + PATIENCE;
        while count() < wanted {
            assert!(Instant::now() < deadline, "the connection stands still");
            std::thread::sleep(EVERY);
        }
    }

    /// From now on the longest silence is measured anew.
    pub(crate) fn begin(&self) {
        self.shared.heard.lock().unwrap().longest = Duration::ZERO;
    }

    /// The longest silence, now that it is over.
    pub(crate) fn gap(&self) -> Duration {
        self.await_numbers(100);
        self.shared.heard.lock().unwrap().longest
    }

    /// Ends it, and answers how many numbers came back: all.
    pub(crate) fn finish(mut self) -> u64 {
        self.shared.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.take().unwrap().join().unwrap();
        self.receiver.take().unwrap().join().unwrap();
        let count = self.shared.heard.lock().unwrap().count;
        assert_eq!(count, sent);
        count
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn hear(&self) {
        let mut heard = self.heard.lock().unwrap();
        let silence = heard.last.elapsed();
        heard.longest = heard.longest.max(silence);
        heard.last = Instant::now();
        heard.count += 1;
    }
}
