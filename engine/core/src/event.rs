//! Every fact there is, one variant a noun.
//!
//! On the wire an event is `{noun: {what happened: data}}`. Variants and fields are added, never
//! edited or removed; a field that is added has a default. `tests/corpus.rs` decodes one of each
//! that was ever written.

use serde::{Deserialize, Serialize};

use crate::{
    image, instance, name, network, node, operation, pool, profile, project, server, volume,
};

macro_rules! events {
    ($($variant:ident($path:path) = $noun:literal,)*) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Event {
            $($variant($path),)*
        }

        $(impl From<$path> for Event {
            fn from(event: $path) -> Self {
                Self::$variant(event)
            }
        })*

        impl Event {
            /// The noun and what happened to it, e.g. `instance-created`.
            #[must_use]
            pub fn type_name(&self) -> String {
                match self {
                    $(Self::$variant(event) => format!(concat!($noun, "-{}"), event.name()),)*
                }
            }

            #[must_use]
            pub const fn noun(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $noun,)*
                }
            }
        }
    };
}

events! {
    Server(server::Event) = "server",
    Node(node::Event) = "node",
    Project(project::Event) = "project",
    Profile(profile::Event) = "profile",
    Network(network::Event) = "network",
    Pool(pool::Event) = "storage-pool",
    Volume(volume::Event) = "storage-volume",
    Image(image::Event) = "image",
    Instance(instance::Event) = "instance",
    Operation(operation::Event) = "operation",
    Name(name::Event) = "name",
}
