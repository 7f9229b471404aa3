//! What Grafana takes for granted of a dashboard, and what its readers may expect of a panel.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::grafana::{Dashboard, directory};

/// Grafana's grid.
const COLUMNS: u64 = 24;

#[test]
fn grafana_can_take_every_dashboard() -> anyhow::Result<()> {
    let sources = provisioned()?;
    let (mut uids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    for dashboard in Dashboard::all()? {
        let json = &dashboard.json;
        check(json, &sources).with_context(|| dashboard.name.clone())?;
        ensure!(uids.insert(json["uid"].to_string()), "{} is there twice", json["uid"]);
        ensure!(titles.insert(json["title"].to_string()), "{} is there twice", json["title"]);
    }
    ensure!(
        titles == ["\"History\"", "\"Now\"", "\"Pipeline\""].map(str::to_owned).into(),
        "{titles:?}"
    );
    Ok(())
}

/// (type, uid) of each provisioned data source.
fn provisioned() -> anyhow::Result<BTreeSet<(String, String)>> {
    let text = std::fs::read_to_string(directory().join("datasources.yml"))?;
    let members = |name: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(&format!("    {name}: ")));
        lines.map(str::to_owned).collect()
    };
    let sources: BTreeSet<_> = members("type").into_iter().zip(members("uid")).collect();
    ensure!(sources.len() == 3, "{sources:?}");
    Ok(sources)
}

fn check(dashboard: &Value, sources: &BTreeSet<(String, String)>) -> anyhow::Result<()> {
    ensure!(dashboard["schemaVersion"] == 41, "schemaVersion {}", dashboard["schemaVersion"]);
    // Days are UTC days everywhere here.
    ensure!(dashboard["timezone"] == "utc", "timezone {}", dashboard["timezone"]);
    ensure!(dashboard.get("id").is_none(), "an id belongs to one Grafana");
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().context("no panels")? {
        let title = text(panel, "/title")?;
        ensure!(ids.insert(number(panel, "/id")?), "{title}: its id is another's");
        place(panel, &mut cells).with_context(|| title.to_owned())?;
        check_panel(panel, sources).with_context(|| title.to_owned())?;
    }
    for variable in dashboard["templating"]["list"].as_array().context("no variables")? {
        if variable["type"] == "query" {
            known(&variable["datasource"], sources)?;
        }
    }
    Ok(())
}

/// Within the grid, and on no other panel.
fn place(panel: &Value, cells: &mut BTreeSet<(u64, u64)>) -> anyhow::Result<()> {
    let [x, y, w, h] = ["x", "y", "w", "h"].map(|it| number(panel, &format!("/gridPos/{it}")));
    let (x, y, w, h) = (x?, y?, w?, h?);
    ensure!(w > 0 && h > 0 && x + w <= COLUMNS, "{}", panel["gridPos"]);
    for row in y..y + h {
        for column in x..x + w {
            ensure!(cells.insert((column, row)), "another panel lies at {column}, {row}");
        }
    }
    Ok(())
}

fn check_panel(panel: &Value, sources: &BTreeSet<(String, String)>) -> anyhow::Result<()> {
    let description = text(panel, "/description")?;
    ensure!(description.ends_with('.'), "its description is no sentence: {description}");
    ensure!(!text(panel, "/fieldConfig/defaults/unit")?.is_empty(), "no unit");
    let steps = panel.pointer("/fieldConfig/defaults/thresholds/steps").and_then(Value::as_array);
    let steps = steps.context("no thresholds")?;
    let values: Vec<_> = steps.iter().map(|step| step["value"].as_f64()).collect();
    ensure!(values.first() == Some(&None), "thresholds begin at everything: {values:?}");
    ensure!(values[1..].iter().all(Option::is_some) && values.is_sorted(), "thresholds {values:?}");
    known(&panel["datasource"], sources)?;
    let targets = panel["targets"].as_array().context("no targets")?;
    ensure!(!targets.is_empty(), "it asks nothing");
    let mut names = BTreeSet::new();
    for target in targets {
        ensure!(target["datasource"] == panel["datasource"], "{target}");
        ensure!(names.insert(text(target, "/refId")?), "two targets have one name");
    }
    Ok(())
}

fn known(source: &Value, sources: &BTreeSet<(String, String)>) -> anyhow::Result<()> {
    let source = (text(source, "/type")?.to_owned(), text(source, "/uid")?.to_owned());
    ensure!(sources.contains(&source), "{source:?} is not provisioned");
    Ok(())
}

fn text<'a>(json: &'a Value, pointer: &str) -> anyhow::Result<&'a str> {
    json.pointer(pointer).and_then(Value::as_str).with_context(|| format!("no {pointer}"))
}

fn number(json: &Value, pointer: &str) -> anyhow::Result<u64> {
    json.pointer(pointer).and_then(Value::as_u64).with_context(|| format!("no {pointer}"))
}
