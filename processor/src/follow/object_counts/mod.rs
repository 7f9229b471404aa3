//! Object counts in Postgres: a source only appends what it has counted; a fold adds it to one row an object.
//!
//! Nearly every pair of an object and an action is new to its batch, and an upsert of each cost as much as
//! storing the events.

use deadpool_postgres::Transaction;

use super::digest::Coded;

/// How often one object met with one action, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Count {
    object: i32,
    event_type: i32,
    count: i64,
}

/// Readers add unfolded counts by themselves, which costs them some 100 ns each.
pub const PAIRS_MAX: i64 = 200_000;

/// Objects whose rows are in memory at once.
const CHUNK: usize = 4_096;

/// Appends what happened to objects in these events.
pub async fn append(on: &Transaction<'_>, events: &[Coded]) -> Result<(), tokio_postgres::Error> {
    let acted_on = events.iter().filter(|it| it.object > 0);
    let mut counts: Vec<Count> = acted_on
        .map(|it| Count {
            object: it.object.cast_signed(),
            event_type: it.event_type.cast_signed(),
            count: 1,
        })
        .collect();
    add_up(&mut counts);
    if counts.is_empty() {
        return Ok(());
    }
    let statement = on.prepare_cached(include_str!("append_delta.sql")).await?;
    let pairs = counts.len() as i32;
    let objects: Vec<i32> = counts.iter().map(|it| it.object).collect();
    let event_types: Vec<i32> = counts.iter().map(|it| it.event_type).collect();
    // No more than there are events.
    let counts: Vec<i32> = counts.iter().map(|it| it.count as i32).collect();
    on.execute(&statement, &[&pairs, &objects, &event_types, &counts]).await?;
    Ok(())
}

/// Adds the oldest deltas to the rows of their objects and takes them away; returns how many. Whoever
/// calls this is the only one.
pub async fn fold(on: &Transaction<'_>) -> anyhow::Result<usize> {
    let rows = on.query(include_str!("read_deltas.sql"), &[&PAIRS_MAX]).await?;
    let mut added = Vec::new();
    let mut ids: Vec<i64> = Vec::with_capacity(rows.len());
    for row in rows {
        ids.push(row.get(0));
        let (objects, event_types, counts): (Vec<i32>, Vec<i32>, Vec<i32>) =
            (row.get(1), row.get(2), row.get(3));
        let pairs = objects.into_iter().zip(event_types).zip(counts);
        added.extend(pairs.map(|((object, event_type), count)| Count {
            object,
            event_type,
            count: count.into(),
        }));
    }
    add_up(&mut added);
    let objects: Vec<&[Count]> = added.chunk_by(|one, other| one.object == other.object).collect();
    for chunk in objects.chunks(CHUNK) {
        add(on, chunk).await?;
    }
    on.execute(include_str!("delete_deltas.sql"), &[&ids]).await?;
    Ok(ids.len())
}

/// Adds to the rows of some objects, each with what is to be added.
async fn add(on: &Transaction<'_>, added: &[&[Count]]) -> anyhow::Result<()> {
    let objects: Vec<i32> = added.iter().map(|it| it[0].object).collect();
    let mut counts = added.concat();
    let statement = on.prepare_cached(include_str!("read_counts.sql")).await?;
    for row in on.query(&statement, &[&objects]).await? {
        let (object, event_types, known): (i32, Vec<i32>, Vec<i64>) =
            (row.get(0), row.get(1), row.get(2));
        let known = event_types.into_iter().zip(known);
        counts.extend(known.map(|(event_type, count)| Count { object, event_type, count }));
    }
    add_up(&mut counts);
    let (mut firsts, mut lasts) = (Vec::new(), Vec::new());
    for of_object in counts.chunk_by(|one, other| one.object == other.object) {
        let before = lasts.last().copied().unwrap_or(0);
        firsts.push(before + 1);
        lasts.push(before + of_object.len() as i32);
    }
    let event_types: Vec<i32> = counts.iter().map(|it| it.event_type).collect();
    let counts: Vec<i64> = counts.iter().map(|it| it.count).collect();
    let statement = on.prepare_cached(include_str!("write_counts.sql")).await?;
    on.execute(&statement, &[&objects, &firsts, &lasts, &event_types, &counts]).await?;
    Ok(())
}

/// Sorts by object and event type and leaves one count for each pair.
fn add_up(counts: &mut Vec<Count>) {
    counts.sort_unstable();
    counts.dedup_by(|later, first| {
        let equal = (later.object, later.event_type) == (first.object, first.event_type);
        if equal {
            first.count += later.count;
        }
        equal
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_a_pair_become_one() {
        let count = |object, event_type, count| Count { object, event_type, count };
        let mut counts =
            vec![count(2, 1, 5), count(1, 1, 1), count(1, 2, 1), count(1, 1, 7), count(2, 1, 1)];
        add_up(&mut counts);
        assert_eq!(counts, [count(1, 1, 8), count(1, 2, 1), count(2, 1, 6)]);
    }
}
