//! What the machine has.

use std::fs;

use axum::response::Response;

use super::answer;
use crate::wire::resources::{
    Cpu, CpuCore, CpuSocket, CpuThread, Disk, Load, Memory, Resources, Storage, System,
};

/// Bytes in a sector, as `/sys/block` counts them.
const SECTOR: u64 = 512;

pub(in crate::server) async fn get() -> Response {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    answer::sync(Resources {
        cpu: cpu(&read("/proc/cpuinfo")),
        memory: memory(&read("/proc/meminfo")),
        storage: storage(),
        system: system(),
        load: load(&read("/proc/loadavg")),
        ..Resources::default()
    })
}

fn cpu(info: &str) -> Cpu {
    let mut sockets: Vec<CpuSocket> = Vec::new();
    let mut total = 0;
    for block in info.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let value = |key: &str| {
            let line =
                block.lines().find(|line| line.split(':').next().map(str::trim) == Some(key));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        let number = |key: &str| value(key).and_then(|text| text.parse().ok()).unwrap_or(0);
        let (socket, core) = (number("physical id"), number("core id"));
        let thread = CpuThread { id: number("processor"), online: true, ..CpuThread::default() };
        total += 1;
        let at = sockets.iter().position(|it| it.socket == socket).unwrap_or_else(|| {
            sockets.push(CpuSocket {
                name: value("model name").unwrap_or_default(),
                vendor: value("vendor_id").unwrap_or_default(),
                socket,
                cores: Vec::new(),
            });
            sockets.len() - 1
        });
        let cores = &mut sockets[at].cores;
        match cores.iter_mut().find(|it| it.core == core) {
            Some(known) => {
                let thread = CpuThread { thread: known.threads.len() as u64, ..thread };
                known.threads.push(thread);
            }
            None => cores.push(CpuCore { core, die: 0, threads: vec![thread] }),
        }
    }
    Cpu { architecture: std::env::consts::ARCH.to_owned(), sockets, total }
}

fn memory(info: &str) -> Memory {
    let kilobytes = |key: &str| -> u64 {
        let line = info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    let bytes = |key| kilobytes(key) * 1024;
    Memory {
        // These two are counts.
        hugepages_total: kilobytes("HugePages_Total"),
        hugepages_used: kilobytes("HugePages_Total").saturating_sub(kilobytes("HugePages_Free")),
        hugepages_size: bytes("Hugepagesize"),
        used: bytes("MemTotal").saturating_sub(bytes("MemAvailable")),
        total: bytes("MemTotal"),
    }
}

fn storage() -> Storage {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut disks: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.path();
            // Only real ones have a device behind them; loops and the like have none.
            path.join("device").exists().then_some(())?;
            let read = |file: &str| {
                fs::read_to_string(path.join(file)).unwrap_or_default().trim().to_owned()
            };
            let size: u64 = read("size").parse().unwrap_or(0);
            Some(Disk {
                id: entry.file_name().to_string_lossy().into_owned(),
                device: read("dev"),
                model: read("device/model"),
                kind: if read("queue/rotational") == "0" { "ssd" } else { "hdd" }.to_owned(),
                read_only: read("ro") == "1",
                removable: read("removable") == "1",
                size: size * SECTOR,
                partitions: Vec::new(),
            })
        })
        .collect();
    disks.sort_by(|one, other| one.id.cmp(&other.id));
    Storage { total: disks.len() as u64, disks }
}

fn system() -> System {
    let read = |file: &str| {
        fs::read_to_string(format!("/sys/class/dmi/id/{file}"))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    System {
        uuid: read("product_uuid"),
        vendor: read("sys_vendor"),
        product: read("product_name"),
        family: read("product_family"),
        version: read("product_version"),
        sku: read("product_sku"),
        serial: read("product_serial"),
        kind: "unknown".to_owned(),
    }
}

fn load(text: &str) -> Load {
    let mut fields = text.split_whitespace();
    let mut number = || fields.next().and_then(|field| field.parse().ok()).unwrap_or(0.0);
    let (one, five, ten) = (number(), number(), number());
    let processes = fields.next().and_then(|field| field.split('/').nth(1)?.parse().ok());
    Load {
        average_1_min: one,
        average_5_min: five,
        average_10_min: ten,
        processes: processes.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_grouped_by_socket_and_core() {
        let block = |processor, core| {
            format!(
                "processor\t: {processor}\nvendor_id\t: V\nmodel name\t: M\nphysical id\t: 0\ncore id\t: {core}\n"
            )
        };
        let cpu = cpu(&[block(0, 0), block(1, 0), block(2, 1)].join("\n"));
        assert_eq!((cpu.total, cpu.sockets.len(), cpu.sockets[0].cores.len()), (3, 1, 2));
        assert_eq!(cpu.sockets[0].cores[0].threads[1].thread, 1);
    }
}
