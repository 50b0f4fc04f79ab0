//! What the operator logs: lines on stderr, filtered by `RUST_LOG`, as text or as JSON. Nothing from outside is interpolated unescaped.

use std::fmt;

use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter,
        format::{JsonFields, Writer},
    },
    registry::LookupSpan,
};

use super::config::LogFormat;
use crate::effects::clock;

const DEFAULT_FILTER: &str = "info,kube_runtime=warn,russh=error";

/// Once, at the start of `landfall run`.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let _ = tracing::subscriber::set_global_default(subscriber(format, filter, std::io::stderr));
}

/// Lines of this format into this writer.
pub(crate) fn subscriber<W>(format: LogFormat, filter: EnvFilter, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
    match format {
        LogFormat::Text => Box::new(lines.finish()),
        LogFormat::Json => Box::new(lines.fmt_fields(JsonFields::new()).event_format(FlatJson).finish()),
    }
}

/// One JSON object a line. The fields of the spans around an event (kind, namespace, name, host) are beside its own.
struct FlatJson;

impl<S, N> FormatEvent<S, N> for FlatJson
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = Map::new();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>().map(|fields| fields.fields.as_str());
            if let Some(Ok(Value::Object(fields))) = fields.map(serde_json::from_str) {
                line.extend(fields);
            }
        }
        event.record(&mut Fields(&mut line));
        line.insert("time".to_owned(), clock::now().to_string().into());
        line.insert("level".to_owned(), event.metadata().level().as_str().into());
        line.insert("target".to_owned(), event.metadata().target().into());
        let text = serde_json::to_string(&line).map_err(|_| fmt::Error)?;
        writeln!(writer, "{text}")
    }
}

/// The fields of an event, in JSON's own types where it has them.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, sync::Arc};

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, EnvFilter::new("info"), move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(lines.0.lock().clone()).unwrap()
    }

    fn lines() {
        let span = tracing::info_span!("reconcile", kind = "Deployment", namespace = "team", name = "shop");
        let _object = span.enter();
        let host = tracing::info_span!("host", host = "web-01");
        let _host = host.enter();
        tracing::warn!(failures = 3_u32, again = true, "it said \"no\"\nand {}", "went");
        tracing::debug!("not shown");
    }

    #[test]
    fn json_lines_parse_and_carry_kind_namespace_name_and_host() {
        let text = logged(LogFormat::Json, lines);
        let line: Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        for (field, value) in [
            ("kind", Value::from("Deployment")),
            ("namespace", "team".into()),
            ("name", "shop".into()),
            ("host", "web-01".into()),
            ("level", "WARN".into()),
            ("failures", 3.into()),
            ("again", true.into()),
            ("message", "it said \"no\"\nand went".into()),
        ] {
            assert_eq!(line[field], value, "{field}: {text}");
        }
        assert!(line["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{text}");
    }

    #[test]
    fn text_lines_carry_kind_namespace_name_and_host() {
        let text = logged(LogFormat::Text, lines);
        for field in ["kind=\"Deployment\"", "namespace=\"team\"", "name=\"shop\"", "host=\"web-01\""] {
            assert!(text.contains(field), "{field}: {text}");
        }
    }
}
