//! Status codes of operations, instances and envelopes, with the names that Incus prints.

use serde::{Deserialize, Serialize};

/// A status; final when it is 200 or more.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct StatusCode(pub u16);

impl StatusCode {
    pub const OPERATION_CREATED: Self = Self(100);
    pub const STARTED: Self = Self(101);
    pub const STOPPED: Self = Self(102);
    pub const RUNNING: Self = Self(103);
    pub const CANCELLING: Self = Self(104);
    pub const PENDING: Self = Self(105);
    pub const STARTING: Self = Self(106);
    pub const STOPPING: Self = Self(107);
    pub const ABORTING: Self = Self(108);
    pub const FREEZING: Self = Self(109);
    pub const FROZEN: Self = Self(110);
    pub const THAWED: Self = Self(111);
    pub const ERROR: Self = Self(112);
    pub const READY: Self = Self(113);
    pub const SUCCESS: Self = Self(200);
    pub const FAILURE: Self = Self(400);
    pub const CANCELLED: Self = Self(401);

    /// As Incus spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OPERATION_CREATED => "Operation created",
            Self::STARTED => "Started",
            Self::STOPPED => "Stopped",
            Self::RUNNING => "Running",
            Self::CANCELLING => "Cancelling",
            Self::PENDING => "Pending",
            Self::STARTING => "Starting",
            Self::STOPPING => "Stopping",
            Self::ABORTING => "Aborting",
            Self::FREEZING => "Freezing",
            Self::FROZEN => "Frozen",
            Self::THAWED => "Thawed",
            Self::ERROR => "Error",
            Self::READY => "Ready",
            Self::SUCCESS => "Success",
            Self::FAILURE => "Failure",
            Self::CANCELLED => "Cancelled",
            Self(_) => "",
        }
    }

    #[must_use]
    pub const fn is_final(self) -> bool {
        self.0 >= 200
    }
}
