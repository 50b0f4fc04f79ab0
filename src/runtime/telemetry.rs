//! What the operator logs: lines on stderr, filtered by `RUST_LOG`. Nothing from outside is interpolated unescaped.

use tracing_subscriber::EnvFilter;

/// Once, at the start of `landfall run`.
pub fn start() {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=warn,russh=error"));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
}
