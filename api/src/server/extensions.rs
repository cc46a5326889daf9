//! The extensions of the dialect that work here, each with the route or behaviour that shows it.
//!
//! Naming one is a promise that clients act on, so `tests/extensions.rs` asks for each. Clients
//! that talk to a cluster cut this list at a length, so new ones go at the end.
//!
//! Architecture Invariant: `storage_and_profile_operations`, `storage_and_network_operations` and
//! `project_delete_operation` are never here. They turn synchronous answers into operations, and
//! without them one dialect serves `incus`, `lxc` and pylxd.

/// In the order of their names' introduction, ours last.
pub const API_EXTENSIONS: &[&str] = &[
    "storage",
    "network",
    "profile_usedby",
    "container_only_migration",
    "container_exec_recording",
    "resources",
    "projects",
    "snapshot_expiry",
    "container_full",
    "console",
    "container_exec_signal_handling",
    "container_exec_user_group_cwd",
    "network_leases",
    "instances",
    "image_create_aliases",
    "image_types",
    "event_lifecycle",
    "event_lifecycle_requestor_address",
    "network_state",
    "resources_v2",
    "snapshot_expiry_creation",
    "api_filtering",
    "warnings",
    "project_usage",
    "instance_bulk_state_change",
    "operations_get_query_all_projects",
    "instance_all_projects",
    "images_all_projects",
    "profiles_all_projects",
    "networks_all_projects",
    "storage_api_volume_rename",
    "storage_volumes_all_projects",
    "metadata_configuration",
    "metrics",
    "instances_rebuild",
    "instance_get_full",
    "instance_create_start",
    "instance_state_started_at",
    "clustering",
    "clustering_join_token",
    "clustering_failure_domains",
    "clustering_evacuation",
    "clustering_groups",
    "cluster_internal_copy",
    "cluster_member_state",
    "stapes_log",
    "stapes_history",
    "stapes_at",
    "stapes_events_since",
    "stapes_operations_history",
    "stapes_replay",
];
