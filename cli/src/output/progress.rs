//! Progress of long work, on stderr, and only where someone may be watching.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Printer;

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Work of unknown length.
    pub(crate) fn spinner(printer: Printer, what: &str) -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_draw_target(target(printer));
        bar.set_message(what.to_owned());
        if printer.live() {
            bar.enable_steady_tick(TICK);
        }
        Self(bar)
    }

    /// Bytes that move; `total` is 0 when nobody knows.
    pub(crate) fn bytes(printer: Printer, what: &str, total: u64) -> Self {
        let bar = ProgressBar::new(total);
        bar.set_draw_target(target(printer));
        let template = if total == 0 {
            "{msg} {bytes} {binary_bytes_per_sec}"
        } else {
            "{msg} [{bar:30}] {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_owned());
        Self(bar)
    }

    pub(crate) fn say(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    pub(crate) fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn target(printer: Printer) -> ProgressDrawTarget {
    if printer.live() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}
