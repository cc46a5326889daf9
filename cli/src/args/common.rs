//! Arguments that many verbs share.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use crate::{completion, output::Format};

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct FormatArgs {
    /// table, compact, markdown, csv, json, jsonl or yaml; `,noheader` behind it drops the header
    #[arg(long, short, default_value = "table", hide_default_value = true)]
    pub(crate) format: Format,
}

/// One instance.
#[derive(Args, Clone, Debug)]
pub(crate) struct InstanceName {
    #[arg(value_name = "INSTANCE", add = ArgValueCompleter::new(completion::instances))]
    pub(crate) instance: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct GetArgs {
    pub(crate) name: String,
    pub(crate) key: String,
    /// The key names a property of the thing itself, not of its configuration
    #[arg(long, short = 'p')]
    pub(crate) property: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct SetArgs {
    pub(crate) name: String,
    /// KEY=VALUE, several if wanted; or KEY VALUE
    #[arg(required = true, value_name = "KEY=VALUE")]
    pub(crate) pairs: Vec<String>,
    /// The keys name properties of the thing itself, not of its configuration
    #[arg(long, short = 'p')]
    pub(crate) property: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct UnsetArgs {
    pub(crate) name: String,
    pub(crate) key: String,
    /// The key names a property of the thing itself, not of its configuration
    #[arg(long, short = 'p')]
    pub(crate) property: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct NameArgs {
    pub(crate) name: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RenameArgs {
    pub(crate) name: String,
    pub(crate) new_name: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ShowArgs {
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// What a new or copied instance is told beyond its source.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct InstanceConfigArgs {
    /// Configuration: KEY=VALUE
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub(crate) config: Vec<String>,
    /// Device configuration: NAME,KEY=VALUE[,KEY=VALUE...]
    #[arg(long, short, value_name = "NAME,KEY=VALUE")]
    pub(crate) device: Vec<String>,
    /// Gone once it stops
    #[arg(long, short)]
    pub(crate) ephemeral: bool,
    /// Profiles to apply, in order; repeat or separate by commas
    #[arg(long, short, value_name = "PROFILE", value_delimiter = ',',
        add = ArgValueCompleter::new(completion::profiles))]
    pub(crate) profile: Vec<String>,
    /// Apply no profile at all
    #[arg(long, conflicts_with = "profile")]
    pub(crate) no_profiles: bool,
    /// The pool to put its root volume in
    #[arg(long, short, value_name = "POOL", add = ArgValueCompleter::new(completion::pools))]
    pub(crate) storage: Option<String>,
    /// The member to put it on, or @GROUP for one of a group
    #[arg(long, value_name = "MEMBER|@GROUP", add = ArgValueCompleter::new(completion::members))]
    pub(crate) target: Option<String>,
}
