//! Standard output: text or JSON, and readers that go away.

use std::io::{ErrorKind, Write};

use tokio::io::AsyncWriteExt as _;

use super::error::CliError;

/// Values of `-o`; docs/cli.md has the shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Json,
    Yaml,
}

/// Prints text. A reader that closes the pipe (`| head`) is no error, and nothing is left to do.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.map_err(CliError::Output),
    }
}

/// Prints a value for a program. YAML begins a document, so that several can follow each other.
pub(super) fn print_value<T: serde::Serialize>(format: Format, value: &T) -> Result<(), CliError> {
    match format {
        Format::Json => print(&format!("{}\n", serde_json::to_string_pretty(value)?)),
        Format::Yaml => print(&format!("---\n{}", serde_saphyr::to_string(value)?)),
    }
}

/// A reader that closes the pipe (`| head`) is no error, and nothing is left to do.
pub(super) async fn write(out: &mut tokio::io::Stdout, bytes: &[u8]) -> Result<(), CliError> {
    let written = async {
        out.write_all(bytes).await?;
        out.flush().await
    };
    match written.await {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.map_err(CliError::Output),
    }
}
