//! Metrics in the OpenMetrics text format, under Incus' names: sampled when they are asked for.

use std::fmt::Write as _;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use stapes_core::port::guest::Measured;

use super::Api;
use crate::server::show;

/// Guests that are looked at at the same time.
const LOOKS: usize = 16;

/// A metric: its name, what it is, and its samples with their labels.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    samples: Vec<(String, f64)>,
}

pub(in crate::server) async fn get(State(api): State<Api>) -> Response {
    let running = api.look(|world| {
        let up = world.instances.values().filter(|it| it.status.is_up());
        let labels = up.map(|it| {
            let project = show::project_name(world, it.project);
            let kind = match it.kind {
                stapes_core::port::image::ImageKind::Container => "container",
                stapes_core::port::image::ImageKind::VirtualMachine => "virtual-machine",
            };
            (
                it.id,
                format!(
                    "name=\"{}\",project=\"{}\",type=\"{kind}\"",
                    escaped(&it.name),
                    escaped(&project)
                ),
            )
        });
        labels.collect::<Vec<_>>()
    });
    let measured = futures::stream::iter(running).map(|(id, labels)| {
        let api = api.clone();
        async move { api.drivers.guests.measure(id).await.ok().map(|it| (labels, it)) }
    });
    let measured: Vec<(String, Measured)> =
        measured.buffer_unordered(LOOKS).filter_map(std::future::ready).collect().await;
    let mut text = String::new();
    for family in families(&measured).into_iter().chain([operations(&api)]) {
        write_family(&mut text, &family);
    }
    text.push_str("# EOF\n");
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

fn operations(api: &Api) -> Family {
    #[allow(clippy::cast_precision_loss, reason = "a gauge is a float in this format")]
    let count = api.look(|world| world.operations.len()) as f64;
    Family {
        name: "incus_operations_total",
        kind: "gauge",
        help: "The number of running operations",
        samples: vec![(String::new(), count)],
    }
}

#[allow(clippy::cast_precision_loss, reason = "numbers are floats in this format")]
fn families(measured: &[(String, Measured)]) -> Vec<Family> {
    let each = |name, kind, help, value: fn(&Measured) -> f64| Family {
        name,
        kind,
        help,
        samples: measured.iter().map(|(labels, it)| (labels.clone(), value(it))).collect(),
    };
    let nics =
        |name, help, value: fn(&stapes_core::port::guest::MeasuredInterface) -> u64| Family {
            name,
            kind: "counter",
            help,
            samples: measured
                .iter()
                .flat_map(|(labels, it)| {
                    it.interfaces.iter().map(move |nic| {
                        (format!("device=\"{}\",{labels}", escaped(&nic.name)), value(nic) as f64)
                    })
                })
                .collect(),
        };
    vec![
        each(
            "incus_cpu_seconds_total",
            "counter",
            "The total number of CPU time used in seconds",
            |it| it.cpu_ns as f64 / 1e9,
        ),
        each("incus_memory_RSS_bytes", "gauge", "The amount of memory in use", |it| {
            it.memory_bytes as f64
        }),
        each("incus_memory_Swap_bytes", "gauge", "The amount of used swap memory", |it| {
            it.swap_bytes as f64
        }),
        each("incus_procs_total", "gauge", "The number of running processes", |it| {
            it.processes as f64
        }),
        nics("incus_network_receive_bytes_total", "The amount of received bytes", |nic| {
            nic.bytes_received
        }),
        nics("incus_network_transmit_bytes_total", "The amount of transmitted bytes", |nic| {
            nic.bytes_sent
        }),
        nics("incus_network_receive_packets_total", "The amount of received packets", |nic| {
            nic.packets_received
        }),
        nics("incus_network_transmit_packets_total", "The amount of transmitted packets", |nic| {
            nic.packets_sent
        }),
    ]
}

fn write_family(text: &mut String, family: &Family) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {} {}", family.name, family.help);
    let _ = writeln!(text, "# TYPE {} {}", family.name, family.kind);
    for (labels, value) in &family.samples {
        let _ = match labels.as_str() {
            "" => writeln!(text, "{} {value}", family.name),
            labels => writeln!(text, "{}{{{labels}}} {value}", family.name),
        };
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
