//! `stapes init`: the first pool, network and profile.

use stapes_api::wire::{ConfigMap, DevicesMap};

use super::preseed::{Part, Preseed, apply, dump};
use crate::{
    args::server::InitArgs,
    exit::ExitStatus,
    failure::{Failure, Result},
    input,
    output::printer,
    session::Session,
};

const POOL: &str = "default";
const BRIDGE: &str = "stapesbr0";
const BACKENDS: [&str; 2] = ["btrfs", "dir"];

pub(crate) async fn run(session: &Session, args: InitArgs) -> Result<ExitStatus> {
    if args.dump {
        session.printer.data(&printer::yaml(&dump(session).await?)?)?;
        return Ok(ExitStatus::Done);
    }
    if args.preseed {
        let value = input::yaml(&input::stdin_text()?, "standard input")?;
        let preseed = serde_json::from_value(value).map_err(|error| {
            Failure::usage("standard input is no preseed").fact(error.to_string())
        })?;
        apply(session, preseed).await?;
        return Ok(ExitStatus::Done);
    }
    let preseed = defaults(&args)?;
    if !args.auto && !args.minimal {
        session.printer.say(&format!("This would be made:\n{}", printer::yaml(&preseed)?));
        if !input::confirm(session, "Make it?", "stapes init --auto")? {
            return Err(Failure::usage("nothing was made").hint("stapes init --preseed < FILE"));
        }
    }
    apply(session, preseed).await?;
    session.printer.hint("stapes image build debian/12 && stapes launch debian/12 web");
    Ok(ExitStatus::Done)
}

/// A pool, a bridge with NAT and the default profile that uses both.
fn defaults(args: &InitArgs) -> Result<Preseed> {
    let pool = args.storage_pool.clone().unwrap_or_else(|| POOL.to_owned());
    let bridge = args.bridge.clone().unwrap_or_else(|| BRIDGE.to_owned());
    let driver = match (&args.storage_backend, args.minimal) {
        (Some(typed), _) if BACKENDS.contains(&typed.as_str()) => typed.clone(),
        (Some(typed), _) => {
            return Err(Failure::usage(format!("there is no storage backend `{typed}`"))
                .fact(format!("There are {}.", BACKENDS.join(", "))));
        }
        (None, true) => "dir".to_owned(),
        (None, false) => "btrfs".to_owned(),
    };
    let mut pool_config = ConfigMap::new();
    if let Some(device) = &args.storage_create_device {
        pool_config.insert("source".to_owned(), device.clone());
    }
    if let Some(bytes) = args.storage_create_loop {
        pool_config.insert("size".to_owned(), bytes.to_string());
    }
    let mut config = ConfigMap::new();
    if let Some(address) = &args.network_address {
        let port = args.network_port.unwrap_or(8443);
        config.insert("core.https_address".to_owned(), format!("{address}:{port}"));
    }
    let devices: DevicesMap = [
        ("root", map(&[("type", "disk"), ("path", "/"), ("pool", &pool)])),
        ("eth0", map(&[("type", "nic"), ("network", &bridge), ("name", "eth0")])),
    ]
    .map(|(name, keys)| (name.to_owned(), keys))
    .into();
    Ok(Preseed {
        config,
        storage_pools: vec![Part { name: pool, driver, config: pool_config, ..Part::default() }],
        networks: vec![Part {
            name: bridge,
            kind: "bridge".to_owned(),
            config: map(&[("ipv4.address", "auto"), ("ipv6.address", "auto")]),
            ..Part::default()
        }],
        profiles: vec![Part { name: "default".to_owned(), devices, ..Part::default() }],
        ..Preseed::default()
    })
}

fn map(pairs: &[(&str, &str)]) -> ConfigMap {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_together() {
        let preseed = defaults(&InitArgs::default()).unwrap();
        assert_eq!(preseed.storage_pools[0].driver, "btrfs");
        let devices = &preseed.profiles[0].devices;
        assert_eq!(devices["root"]["pool"], preseed.storage_pools[0].name);
        assert_eq!(devices["eth0"]["network"], preseed.networks[0].name);
        let minimal = defaults(&InitArgs { minimal: true, ..InitArgs::default() }).unwrap();
        assert_eq!(minimal.storage_pools[0].driver, "dir");
        let odd = InitArgs { storage_backend: Some("ext4".into()), ..InitArgs::default() };
        assert!(defaults(&odd).is_err());
    }
}
