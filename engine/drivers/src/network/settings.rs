//! The kernel settings that a routed bridge needs.

use std::{fs, io, path::Path};

use stapes_core::{port::DriverError, spec::NetworkSpec};

const ROOT: &str = "/proc/sys/net";

/// Lets the host route for the network, and keeps the bridge from configuring itself.
pub(super) fn ensure(spec: &NetworkSpec) -> Result<(), DriverError> {
    let bridge = &spec.bridge;
    if spec.ipv4.is_some() {
        // Raised and never lowered: others may need it too.
        set("ipv4/ip_forward", "1")?;
        set(&format!("ipv4/conf/{bridge}/forwarding"), "1")?;
    }
    if !Path::new(ROOT).join("ipv6").exists() {
        return if spec.ipv6.is_some() {
            Err(DriverError::Refused(format!(
                "this host's kernel has no IPv6; set ipv6.address=none on network {bridge}"
            )))
        } else {
            Ok(())
        };
    }
    set(&format!("ipv6/conf/{bridge}/accept_ra"), "0")?;
    set(&format!("ipv6/conf/{bridge}/autoconf"), "0")?;
    // Nobody else may have our address, and waiting for that proof would delay the servers.
    set(&format!("ipv6/conf/{bridge}/accept_dad"), "0")?;
    let without = if spec.ipv6.is_some() { "0" } else { "1" };
    set(&format!("ipv6/conf/{bridge}/disable_ipv6"), without)?;
    if spec.ipv6.is_some() {
        keep_learning_routes()?;
        set("ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// A host that forwards stops listening to its own router's advertisements, unless told to.
fn keep_learning_routes() -> Result<(), DriverError> {
    let interfaces = fs::read_dir(Path::new(ROOT).join("ipv6/conf"))
        .map_err(|error| DriverError::Failed(format!("{ROOT}/ipv6/conf: {error}")))?;
    for name in interfaces.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let setting = format!("ipv6/conf/{name}/accept_ra");
        if get(&setting).is_ok_and(|value| value == "1") {
            set(&setting, "2")?;
        }
    }
    Ok(())
}

pub(super) fn get(setting: &str) -> io::Result<String> {
    Ok(fs::read_to_string(Path::new(ROOT).join(setting))?.trim().to_owned())
}

fn set(setting: &str, value: &str) -> Result<(), DriverError> {
    if get(setting).is_ok_and(|now| now == value) {
        return Ok(());
    }
    fs::write(Path::new(ROOT).join(setting), value)
        .map_err(|error| DriverError::Failed(format!("{ROOT}/{setting} = {value}: {error}")))
}
