//! Grafana's part in a dashboard: reads its file, and puts variables and macros in place as its data sources do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// What is provisioned.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/grafana")
}

#[derive(Debug)]
pub struct Dashboard {
    /// Of its file, without the extension.
    pub name: String,
    pub json: Value,
}

impl Dashboard {
    pub fn all() -> anyhow::Result<Vec<Self>> {
        let mut dashboards = Vec::new();
        for file in directory().join("dashboards").read_dir()? {
            let path = file?.path();
            let name = path.file_stem().context("a file has a name")?.to_string_lossy();
            let json = serde_json::from_slice(&std::fs::read(&path)?)
                .with_context(|| format!("{} is no JSON", path.display()))?;
            dashboards.push(Self { name: name.into_owned(), json });
        }
        Ok(dashboards)
    }

    pub fn panels(&self) -> &[Value] {
        self.json["panels"].as_array().map_or(&[], Vec::as_slice)
    }

    pub fn variables(&self) -> &[Value] {
        self.json["templating"]["list"].as_array().map_or(&[], Vec::as_slice)
    }
}

/// What a viewer has chosen.
#[derive(Debug, Clone)]
pub struct View {
    /// The time range, RFC 3339 in UTC.
    pub from: &'static str,
    pub to: &'static str,
    pub variables: BTreeMap<String, String>,
}

impl View {
    /// With the values of variables, the longest names first: one may begin with another.
    pub fn text(&self, template: &str) -> String {
        let mut variables: Vec<_> = self.variables.iter().collect();
        variables.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        variables.into_iter().fold(template.to_owned(), |text, (name, value)| {
            text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value)
        })
    }

    /// With variables, and the macros of the Postgres data source.
    pub fn sql(&self, template: &str) -> anyhow::Result<String> {
        let template = self.text(template);
        let (mut sql, mut rest) = (String::new(), template.as_str());
        while let Some(at) = rest.find("$__") {
            sql.push_str(&rest[..at]);
            let (name, after) = rest[at..].split_once('(').context("a macro without arguments")?;
            let (arguments, after) = after.split_once(')').context("a macro without an end")?;
            sql.push_str(&self.expand(name, arguments)?);
            rest = after;
        }
        Ok(sql + rest)
    }

    fn expand(&self, name: &str, arguments: &str) -> anyhow::Result<String> {
        let Self { from, to, .. } = self;
        let arguments: Vec<_> = arguments.split(',').map(str::trim).collect();
        Ok(match (name, arguments.as_slice()) {
            ("$__timeFrom", [""]) => format!("'{from}'"),
            ("$__timeTo", [""]) => format!("'{to}'"),
            ("$__timeFilter", [column]) => format!("{column} BETWEEN '{from}' AND '{to}'"),
            _ => bail!("the macro {name}({}) is not known here", arguments.join(", ")),
        })
    }
}

/// The command that the Redis data source makes of a target.
pub fn redis_command(target: &Value, view: &View) -> anyhow::Result<Vec<String>> {
    let part = |name: &str| {
        let text = target[name].as_str().with_context(|| format!("no {name} in {target}"))?;
        Ok::<_, anyhow::Error>(view.text(text))
    };
    ensure!(target["type"] == "command", "{target}");
    ensure!(part("query")?.is_empty(), "a query would take the place of the command: {target}");
    let command = part("command")?;
    Ok(match command.as_str() {
        "get" => vec![command, part("keyName")?],
        "zrange" => {
            let by = part("zrangeQuery")?;
            vec![command, part("keyName")?, part("min")?, part("max")?, by, "WITHSCORES".to_owned()]
        }
        _ => bail!("the command {command} is not known here"),
    })
}

/// The name of a series, as `legendFormat` has it.
pub fn legend(format: &str, labels: &BTreeMap<String, String>) -> String {
    labels.iter().fold(format.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{{{name}}}}}"), value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        let variables = [("post", "123"), ("posts", "7")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        View { from: "2026-03-01T00:00:00Z", to: "2026-03-02T00:00:00Z", variables }
    }

    #[test]
    fn macros_become_what_grafana_documents() {
        let sql = view().sql("select $__timeFrom() where $__timeFilter(t) and u < $__timeTo()");
        let expected = "select '2026-03-01T00:00:00Z' where t BETWEEN '2026-03-01T00:00:00Z' AND '2026-03-02T00:00:00Z' and u < '2026-03-02T00:00:00Z'";
        assert_eq!(sql.unwrap(), expected);
        assert!(view().sql("select $__unknown(t)").is_err());
    }

    #[test]
    fn a_variable_is_not_taken_for_one_whose_name_is_shorter() {
        assert_eq!(view().text("$post:$posts:${post}s"), "123:7:123s");
    }
}
