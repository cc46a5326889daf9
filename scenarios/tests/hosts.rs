//! The machines of cluster tests themselves: whether they can be cut off, and counted through.

use std::process::{Child, Stdio};

use stapes_scenarios::hosts::{Counter, Hosts, UPLINK};

/// Gives every connection back what it sends.
const ECHO: &str = "
import socket
listener = socket.create_server(('0.0.0.0', 7007))
print('listening', flush=True)
link, _ = listener.accept()
link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
while data := link.recv(4096):
    link.sendall(data)
";

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_machine_that_is_cut_off_is_waited_for() {
    let hosts = Hosts::new(1);
    hosts.hosts[0].namespace().address(UPLINK, "10.98.0.1/24");
    hosts.client.address("eth0", "10.98.0.100/24");
    let mut echo = hosts.hosts[0].namespace().program("python3");
    let mut echo = Killed(
        echo.args(["-c", ECHO]).stdout(Stdio::piped()).spawn().expect("python3 can be started"),
    );
    let mut line = String::new();
    let said = echo.0.stdout.take().expect("it is piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(said), &mut line).expect("it says it");

    let calm = Counter::connect(&hosts.client, "10.98.0.1", 7007);
    hosts.cut_off(0);
    std::thread::sleep(std::time::Duration::from_millis(300));
    hosts.reconnect(0);
    let counted = calm.stop();
    assert!(counted.whole, "{counted:?}");
    assert!(counted.gap_ms >= 250.0, "it was cut off: {counted:?}");
}
