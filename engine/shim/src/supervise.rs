//! The shim's life: born with three descriptors, it starts its guest, serves whoever asks, and
//! ends after the guest has.
//!
//! Descriptor 0 is the first conversation with the driver, 1 the directory of the guest's records
//! (locked, and the lock comes along), 2 the log.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use nix::libc;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};

use crate::{
    console::Console,
    exec, exit,
    fault::{Doing as _, Fault, Result},
    live,
    protocol::{CONNECTIONS_MAX, Exit, Hello, Reply, Request, VERSION},
    record,
    spec::Spec,
    start::Started,
    stop,
    sys::{self, process, terminal::Terminal},
    transport,
};

mod birth;
mod conversation;
mod lease;
mod moving;
pub(crate) use birth::log;
use conversation::Conversation;
use lease::Lease;

/// How often an init is looked at that does not understand yet.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// The first argument of a shim that takes a running guest over.
pub const RESCUE: &str = "--rescue";

/// The program `stapes-shim`: its exit status.
#[must_use]
pub fn main() -> i32 {
    if let Some(directory) = live::hook::directory() {
        return live::hook::main(&directory);
    }
    if std::env::args().nth(1).as_deref() == Some(live::SUBJECT) {
        return live::be_subject();
    }
    let Ok((first, directory)) = birth::inherit() else { return 2 };
    let rescue = std::env::args().any(|argument| argument == RESCUE);
    match Shim::begin(&first, directory, rescue) {
        Ok(shim) => {
            shim.serve(first);
            0
        }
        Err(fault) => {
            let refused = Reply::Refused { text: fault.to_string(), errno: fault.errno() };
            // The daemon may be gone; the log has it then.
            if transport::send(&first, &refused, &[]).is_err() {
                log(&fault.to_string());
            }
            1
        }
    }
}

/// A guest that has come to a shim, one way or another.
struct Begun {
    guest: Started,
    console: Terminal,
    /// On its console, before.
    shown: Vec<u8>,
    hello: Hello,
    hold: Option<live::Hold>,
}

/// One guest, and who talks about it.
struct Shim {
    spec: Spec,
    directory: OwnedFd,
    hello: Hello,
    guest: Started,
    console: Console,
    listener: OwnedFd,
    conversations: Vec<Conversation>,
    /// The guest is being moved.
    hold: Option<live::Hold>,
    /// Asked to shut init down, and init has not understood yet.
    asking: bool,
    forced: bool,
    lease: Lease,
}

impl Shim {
    fn begin(first: &OwnedFd, directory: OwnedFd, rescue: bool) -> Result<Self> {
        let spec: Spec = record::read(&directory, record::SPEC)
            .doing("read the spec")?
            .ok_or_else(|| Fault::because("read the spec", "there is none"))?;
        spec.cgroups.enter_as_shim().doing("enter the shims' cgroups")?;
        // Before the guest: who looks for it while it starts finds somebody to wait for.
        let listener = listen(&directory).doing("open the control socket")?;
        let Begun { guest, console, shown, hello, hold } = if rescue {
            birth::rescue(&spec, &directory)?
        } else if let Some(from) = &spec.restore {
            birth::restore(&spec, from, &directory)?
        } else {
            birth::start(&spec)?
        };
        let console = Console::new(console, shown).doing("read the console")?;
        record::write(&directory, record::STATE, &hello, false).doing("write the state")?;
        exec::enter_for_children(guest.pidfd.as_fd())?;
        // Whoever is not there any more finds us by the socket.
        let _ = transport::send(first, &Reply::Hello(hello.clone()), &[]);
        Ok(Self {
            spec,
            directory,
            hello,
            guest,
            console,
            listener,
            conversations: Vec::new(),
            hold,
            asking: false,
            forced: false,
            lease: Lease::default(),
        })
    }

    fn serve(mut self, first: OwnedFd) {
        self.conversations.extend(Conversation::new(first).ok().map(Conversation::watching));
        let ended = loop {
            if let Some(ended) = self.turn() {
                break ended;
            }
        };
        self.finish(ended);
    }

    /// Waits for something to happen and does what follows. Answers when init has ended.
    fn turn(&mut self) -> Option<Option<process::Ended>> {
        let events = self.wait();
        if events.console {
            self.console.take();
        }
        self.console.serve(&events.viewers);
        if events.listener {
            self.accept();
        }
        if events.hold {
            self.turn_of_hold();
        }
        for (number, (said, ended)) in events.conversations.into_iter().enumerate() {
            if said {
                self.hear(number);
            }
            if ended && let Some(conversation) = self.conversations.get_mut(number) {
                conversation.reap();
            }
        }
        self.conversations.retain(|conversation| !conversation.is_over());
        if self.asking {
            self.ask_to_shut_down();
        }
        if events.lease {
            self.lease.expire();
            if let Err(fault) = self.kill() {
                log(&fault.to_string());
            }
        }
        if events.init { exit::of_init(&self.guest.pidfd) } else { None }
    }

    fn wait(&self) -> Events {
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.guest.pidfd.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.console.master(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN),
        ];
        for (viewer, waits) in self.console.viewers() {
            let wanted = if waits { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            fds.push(PollFd::from_borrowed_fd(viewer, wanted));
        }
        let holders = fds.len();
        let none = self.guest.pidfd.as_fd();
        let [one, other] = self.hold.as_ref().map_or([None, None], live::Hold::descriptors);
        let holds = [one, other, self.lease.timer()];
        for holder in holds {
            let wanted = if holder.is_some() { PollFlags::IN } else { PollFlags::empty() };
            fds.push(PollFd::from_borrowed_fd(holder.unwrap_or(none), wanted));
        }
        let conversations = fds.len();
        for conversation in &self.conversations {
            // A conversation without one of the two has a place for it all the same.
            for half in [conversation.socket(), conversation.pidfd()] {
                let wanted = if half.is_some() { PollFlags::IN } else { PollFlags::empty() };
                fds.push(PollFd::from_borrowed_fd(half.unwrap_or(none), wanted));
            }
        }
        let timeout = self.asking.then_some(LOOK_AGAIN);
        // An error is an interruption: nothing is ready then.
        let _ = poll(&mut fds, timeout.as_ref());
        let ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let held = |place: usize| holds[place].is_some() && ready(&fds[holders + place]);
        Events {
            init: ready(&fds[0]),
            console: ready(&fds[1]),
            listener: ready(&fds[2]),
            hold: held(0) || held(1),
            lease: held(2),
            viewers: fds[3..holders]
                .iter()
                .map(|fd| {
                    let events = fd.revents();
                    (!events.difference(PollFlags::OUT).is_empty(), events.contains(PollFlags::OUT))
                })
                .collect(),
            conversations: fds[conversations..]
                .chunks(2)
                .zip(&self.conversations)
                .map(|(pair, conversation)| {
                    let said = conversation.socket().is_some() && ready(&pair[0]);
                    (said, conversation.pidfd().is_some() && ready(&pair[1]))
                })
                .collect(),
        }
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = rustix::net::accept_with(&self.listener, flags) else { return };
        // One too many is closed at once, which its other end sees.
        if self.conversations.len() < CONNECTIONS_MAX {
            self.conversations.extend(Conversation::new(socket).ok());
        }
    }

    fn hear(&mut self, number: usize) {
        let Some((request, sent)) = self.conversations[number].hear() else { return };
        match self.answer(number, request, sent) {
            Ok(Some((reply, descriptor))) => {
                self.conversations[number].tell(&reply, descriptor.as_ref());
            }
            Ok(None) => {}
            Err(fault) => {
                let refused = Reply::Refused { text: fault.to_string(), errno: fault.errno() };
                self.conversations[number].tell(&refused, None);
            }
        }
    }

    fn answer(
        &mut self,
        number: usize,
        request: Request,
        sent: Vec<OwnedFd>,
    ) -> Result<Option<(Reply, Option<OwnedFd>)>> {
        if let Some(answer) = self.answer_moving(number, &request)? {
            return Ok(answer);
        }
        let conversation = &mut self.conversations[number];
        Ok(match request {
            Request::Hello => Some((Reply::Hello(self.hello.clone()), None)),
            Request::Watch => {
                conversation.watch();
                None
            }
            Request::Exec(wanted) => {
                let group = self.spec.cgroups.group(&self.spec.instance);
                let program = exec::execute(&self.spec, &self.guest, &group, &wanted, sent)?;
                Some(conversation.run(program).doing("hand the terminal over")?)
            }
            Request::Signal(signal) => {
                conversation.signal(signal).doing("signal the program")?;
                Some((Reply::Done, None))
            }
            Request::Resize { columns, rows } => {
                conversation.resize(columns, rows).doing("resize the terminal")?;
                Some((Reply::Done, None))
            }
            Request::Console { columns, rows } => {
                let stream = self.console.view(columns, rows).doing("open the console")?;
                Some((Reply::Descriptor, Some(stream)))
            }
            Request::ConsoleLog => {
                let file = self.console.log().doing("copy the console")?;
                Some((Reply::Descriptor, Some(file)))
            }
            Request::Shutdown => {
                conversation.watch();
                self.asking = true;
                None
            }
            Request::Kill => {
                conversation.watch();
                self.forced = true;
                self.kill()?;
                None
            }
            Request::Lease(until) => {
                self.lease.set(until).doing("set the lease")?;
                Some((Reply::Done, None))
            }
            // Answered above.
            Request::Checkpoint(_) | Request::Resume | Request::Activate => None,
        })
    }

    fn kill(&mut self) -> Result<()> {
        let group = self.spec.cgroups.group(&self.spec.instance);
        group.kill().doing("kill the guest")?;
        if let Some(hold) = &mut self.hold {
            hold.end_criu();
        }
        Ok(())
    }

    fn ask_to_shut_down(&mut self) {
        let group = self.spec.cgroups.group(&self.spec.instance);
        // A frozen guest hears nothing.
        if group.is_frozen() {
            let _ = group.freeze(false);
        }
        if let Ok(Some(signal)) = stop::signal_for(self.guest.pid) {
            self.asking = process::signal(self.guest.pidfd.as_fd(), signal).is_err();
        }
    }

    /// Tells how it ended: first on the disk, for those who are not there.
    fn finish(mut self, ended: Option<process::Ended>) {
        if !self.forced {
            self.guest.root = None;
        }
        if let Some(hold) = &mut self.hold {
            hold.end_criu();
        }
        let group = self.spec.cgroups.group(&self.spec.instance);
        let circumstances = exit::Circumstances {
            forced: self.forced,
            expired: self.lease.expired,
            out_of_memory: group.ran_out_of_memory(),
            rescued: self.hello.rescued,
        };
        let exit = Exit {
            epoch: self.spec.epoch,
            generation: self.spec.generation,
            cause: exit::cause(ended, circumstances),
            at_us: sys::now_us(),
        };
        // Who killed it is told directly; only news must not be lost with the host.
        if let Err(error) = record::write(&self.directory, record::EXIT, &exit, !self.forced) {
            log(&format!("write the exit record: {error}"));
        }
        self.console.finish();
        if let Err(fault) = group.destroy() {
            log(&fault.to_string());
        }
        for conversation in &mut self.conversations {
            conversation.finish(&exit);
        }
        // Before the directory's lock goes.
        self.guest.root = None;
    }
}

/// What [`Shim::wait`] saw.
struct Events {
    init: bool,
    console: bool,
    listener: bool,
    hold: bool,
    lease: bool,
    /// Readable, writable.
    viewers: Vec<(bool, bool)>,
    /// Something was said, the program ended.
    conversations: Vec<(bool, bool)>,
}

fn listen(directory: &OwnedFd) -> io::Result<OwnedFd> {
    const BACKLOG: i32 = 64;
    record::remove(directory, record::CONTROL)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let address = SocketAddrUnix::new(record::short_path(directory, record::CONTROL))?;
    // SAFETY: a plain call; the shim's umask is 0 otherwise, and the socket is root's alone.
    let umask = unsafe { libc::umask(0o177) };
    let bound = rustix::net::bind(&socket, &address);
    // SAFETY: as above.
    unsafe { libc::umask(umask) };
    bound?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn hello(spec: &Spec, pid: i32, rescued: bool) -> io::Result<Hello> {
    Ok(Hello {
        version: VERSION,
        instance: spec.instance.clone(),
        epoch: spec.epoch,
        generation: spec.generation,
        pid,
        start_ticks: process::start_ticks(pid)?,
        boot: sys::boot_id()?,
        started_at_us: sys::now_us(),
        rescued,
        held: None,
        problems: Vec::new(),
    })
}
