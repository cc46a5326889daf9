//! Real servers that fail.
