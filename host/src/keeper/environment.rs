//! The environment of an application: exactly what its configuration says, over a fixed PATH and LANG.

use landfall_host_protocol::{Configuration, EnvValue, FileValue, Secrets};

use crate::process::MARK;

pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A later variable of the same name wins. The error names what is wrong.
pub fn environment(
    configuration: &Configuration,
    secrets: &Secrets,
    instance: &str,
) -> Result<Vec<(String, String)>, String> {
    let mut all = vec![("PATH".to_owned(), PATH.to_owned()), ("LANG".to_owned(), "C.UTF-8".to_owned())];
    for variable in &configuration.env {
        let value = match &variable.value {
            EnvValue::Plain(value) => value.clone(),
            EnvValue::Secret(key) => {
                let value = secrets.0.get(key).ok_or_else(|| format!("the secret value {key} is not here"))?;
                let text = value.as_text().ok_or_else(|| format!("the secret value {key} is no text"))?;
                text.to_owned()
            }
        };
        // More than this the kernel does not ask of a variable.
        if variable.name.is_empty() || variable.name.contains(['=', '\0']) || value.contains('\0') {
            return Err(format!("{:?} can't be a variable of the environment", variable.name));
        }
        all.push((variable.name.clone(), value));
    }
    all.push((MARK.to_owned(), instance.to_owned()));
    Ok(all)
}

/// A secret value that the configuration needs and that is not here.
pub fn missing_secret(configuration: &Configuration, secrets: Option<&Secrets>) -> Option<String> {
    let has = |key: &String| secrets.is_some_and(|secrets| secrets.0.contains_key(key));
    let of_env = configuration.env.iter().filter_map(|variable| match &variable.value {
        EnvValue::Secret(key) => Some(key),
        EnvValue::Plain(_) => None,
    });
    let of_files = configuration.files.iter().filter_map(|file| match &file.value {
        FileValue::Secret(key) => Some(key),
        FileValue::Plain(_) => None,
    });
    of_env.chain(of_files).find(|key| !has(key)).cloned()
}
