//! Running programs in an instance, and its console.

use serde::{Deserialize, Serialize};

use super::{ConfigMap, lenient, or_default};

/// `POST /1.0/instances/x/exec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceExecPost {
    #[serde(deserialize_with = "or_default")]
    pub command: Vec<String>,
    #[serde(rename = "wait-for-websocket")]
    pub wait_for_websocket: bool,
    pub interactive: bool,
    #[serde(deserialize_with = "lenient::config")]
    pub environment: ConfigMap,
    pub width: u16,
    pub height: u16,
    #[serde(rename = "record-output")]
    pub record_output: bool,
    pub user: u32,
    pub group: u32,
    pub cwd: String,
}

/// `POST /1.0/instances/x/console`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceConsolePost {
    pub width: u16,
    pub height: u16,
    /// `console` (also when empty) or `vga`.
    #[serde(rename = "type")]
    pub kind: String,
    pub force: bool,
}

/// A message on the control socket. Arguments are strings, the numbers too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Control {
    WindowResize { args: WindowSize },
    Signal { signal: i32 },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WindowSize {
    pub width: String,
    pub height: String,
}

impl Control {
    #[must_use]
    pub fn resize(columns: u16, rows: u16) -> Self {
        Self::WindowResize {
            args: WindowSize { width: columns.to_string(), height: rows.to_string() },
        }
    }
}
