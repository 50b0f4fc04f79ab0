//! Versions by group and zone: one table for each project, one column for each version, wanted ones first.

use std::fmt::Write;

use crate::{cli::matrix::Row, model::text::for_terminal};

/// Versions that have a column; hosts with others are in one together.
const VERSIONS: usize = 8;

pub fn matrix(rows: &[Row]) -> String {
    let mut projects: Vec<&str> = rows.iter().map(|row| row.project.as_str()).collect();
    projects.dedup();
    let mut out = String::new();
    for (at, project) in projects.iter().enumerate() {
        let _ = writeln!(out, "{}Project {project}", if at == 0 { "" } else { "\n" });
        let rows: Vec<&Row> = rows.iter().filter(|row| row.project == *project).collect();
        write_table(&mut out, &table(&rows));
    }
    if rows.is_empty() {
        out.push_str("no Deployment selects a host\n");
    }
    for_terminal(&out)
}

/// Every row as long as the first one, which is the head.
fn table(rows: &[&Row]) -> Vec<Vec<String>> {
    let versions = versions(rows);
    let (shown, others) = versions.split_at(versions.len().min(VERSIONS));
    let of = |row: &Row, versions: &[&str]| -> usize { versions.iter().filter_map(|one| row.versions.get(*one)).sum() };
    let mut head: Vec<String> = ["DEPLOYMENT", "GROUP", "ZONE", "WANTED", "HOSTS"].map(str::to_owned).to_vec();
    head.extend(shown.iter().map(|version| (*version).to_owned()));
    head.extend((!others.is_empty()).then(|| "OTHERS".to_owned()));
    head.extend(["NONE", "STALE", "PINNED", "FAILED", "DRIFTING", "AWAY"].map(str::to_owned));
    let line = |row: &&Row| {
        let mut line = vec![row.deployment.clone(), row.host_group.clone(), or_dash(&row.zone), row.wanted.clone()];
        let mut numbers = vec![row.hosts];
        numbers.extend(shown.iter().map(|version| of(row, &[*version])));
        numbers.extend((!others.is_empty()).then(|| of(row, others)));
        numbers.extend([row.empty, row.stale, row.pinned, row.failed, row.drifting, row.away]);
        line.extend(numbers.into_iter().map(number));
        line
    };
    std::iter::once(head).chain(rows.iter().map(line)).collect()
}

/// Wanted ones first, then by the number of hosts.
fn versions<'a>(rows: &[&'a Row]) -> Vec<&'a str> {
    let mut versions: Vec<&str> = rows.iter().map(|row| row.wanted.as_str()).collect();
    versions.extend(rows.iter().flat_map(|row| row.versions.keys().map(String::as_str)));
    let is_wanted = |version: &str| rows.iter().any(|row| row.wanted == version);
    let hosts = |version: &str| -> usize { rows.iter().filter_map(|row| row.versions.get(version)).sum() };
    versions.sort_by_key(|version| (!is_wanted(version), std::cmp::Reverse(hosts(version)), *version));
    versions.dedup();
    versions
}

/// Zero is a point, so that the eye finds the rest.
fn number(n: usize) -> String {
    if n == 0 { ".".to_owned() } else { n.to_string() }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// Words to the left, numbers to the right.
fn write_table(out: &mut String, table: &[Vec<String>]) {
    let columns = table.first().map_or(0, Vec::len);
    let width =
        |column: usize| table.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in table {
        let cells = row.iter().zip(widths.iter().copied()).enumerate().map(|(at, (cell, width))| match at {
            0..4 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::matrix::tests::example;

    #[test]
    fn a_project_is_a_table_of_versions_by_group_and_zone() {
        let expected = "\
Project hello
DEPLOYMENT  GROUP  ZONE  WANTED  HOSTS  v2  v1  NONE  STALE  PINNED  FAILED  DRIFTING  AWAY
hello       prod   -     v2          1   .   .     1      1       .       .         .     .
hello       prod   a     v2          3   1   2     .      .       1       1         .     .
hello       prod   b     v2          3   1   1     .      .       .       .         2     1
";
        assert_eq!(matrix(&example()), expected);
        assert_eq!(matrix(&[]), "no Deployment selects a host\n");
    }

    #[test]
    fn versions_beyond_what_fits_are_one_column() {
        let mut rows = example();
        rows[1].versions.extend((0..20).map(|n| (format!("w{n:02}"), 1)));
        let shown = matrix(&rows);
        let head = shown.lines().nth(1).unwrap();
        assert!(head.contains("w05  OTHERS") && !head.contains("w06"), "{head}");
    }
}
