//! Which facts count for a question, and in which group each of them.

use std::collections::{BTreeMap, HashMap};

use common::stats::{ALL_KINDS, Fact};

use super::StatsError;
use super::params::{Filter, Named};
use super::snapshot::Snapshot;

/// By what answers are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Type,
    Source,
}

impl Named for By {
    const ALL: &'static [(&'static str, Self)] = &[("type", Self::Type), ("source", Self::Source)];
}

/// A filter in the numbers of the dictionaries.
#[derive(Debug)]
pub struct Scope {
    /// Names of the groups; without grouping there is one.
    pub groups: Vec<String>,
    group_of: HashMap<i32, usize>,
    /// Nothing is filtered or told apart: the cells of all kinds together answer.
    is_all: bool,
    user: Option<u32>,
    object: Option<u32>,
}

impl Scope {
    pub async fn resolve(
        snapshot: &Snapshot<'_>,
        filter: &Filter,
        by: Option<By>,
    ) -> Result<Self, StatsError> {
        let kinds = snapshot.kinds(filter).await?;
        let mut groups = BTreeMap::new();
        for kind in &kinds {
            let name = match by {
                None => "",
                Some(By::Type) => &kind.event_type,
                Some(By::Source) => &kind.source,
            };
            groups.entry(name).or_insert_with(Vec::new).push(kind.number);
        }
        let members = groups.values().enumerate();
        let group_of = members.flat_map(|(at, kinds)| kinds.iter().map(move |kind| (*kind, at)));
        let mut scope = Self {
            group_of: group_of.collect(),
            groups: groups.into_keys().map(str::to_owned).collect(),
            is_all: *filter == Filter::default() && by.is_none(),
            user: None,
            object: None,
        };
        scope.narrow(snapshot, filter).await?;
        Ok(scope)
    }

    /// Nobody and nothing that was never seen has done or got anything.
    async fn narrow(&mut self, snapshot: &Snapshot<'_>, filter: &Filter) -> Result<(), StatsError> {
        let mut is_known = true;
        if let Some(id) = &filter.user_id {
            self.user = snapshot.user(id).await?;
            is_known &= self.user.is_some();
        }
        if let (Some(object_type), Some(id)) = (&filter.object_type, &filter.object_id) {
            self.object = snapshot.object(object_type, id).await?;
            is_known &= self.object.is_some();
        }
        if !is_known {
            self.group_of.clear();
        }
        Ok(())
    }

    /// Whether only the facts themselves can tell.
    pub fn needs_facts(&self) -> bool {
        self.user.is_some() || self.object.is_some()
    }

    /// The kinds of which facts count.
    pub fn kinds(&self) -> Vec<i32> {
        self.group_of.keys().copied().collect()
    }

    /// The kinds of which cells are read where all are summed up once more.
    pub fn summed_kinds(&self) -> Vec<i32> {
        if self.is_all { vec![ALL_KINDS] } else { self.kinds() }
    }

    pub fn group(&self, kind: i32) -> Option<usize> {
        if kind == ALL_KINDS { Some(0) } else { self.group_of.get(&kind).copied() }
    }

    pub fn counts(&self, fact: &Fact) -> bool {
        self.user.is_none_or(|it| it == fact.user) && self.object.is_none_or(|it| it == fact.object)
    }
}
