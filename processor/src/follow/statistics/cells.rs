//! Adds to cells of the statistics, a bounded number at a time.

use std::collections::BTreeMap;

use common::stats::{Cell, Facet};
use deadpool_postgres::Transaction;

/// By slot, day or block, and by kind.
pub type Cells<C> = BTreeMap<(i32, i32), C>;

/// Cells that are in memory at once; one of a busy quarter of an hour has some MB.
const CHUNK: usize = 64;

/// Reads the cells that are there, adds to them, and writes them back. Whoever calls this is the only
/// writer.
pub async fn add<C: Cell>(
    on: &Transaction<'_>,
    facet: Facet,
    cells: Cells<C>,
) -> anyhow::Result<()> {
    let read = on.prepare_cached(include_str!("read_cells.sql")).await?;
    let write = on.prepare_cached(include_str!("write_cells.sql")).await?;
    let mut cells = cells.into_iter().peekable();
    while cells.peek().is_some() {
        let mut chunk: Cells<C> = cells.by_ref().take(CHUNK).collect();
        let (at, kinds): (Vec<i32>, Vec<i32>) = chunk.keys().copied().unzip();
        for row in on.query(&read, &[&facet.number(), &at, &kinds]).await? {
            let mut known = C::unpack(row.get(2))?;
            let cell = chunk.entry((row.get(0), row.get(1))).or_default();
            known.absorb(std::mem::take(cell));
            *cell = known;
        }
        let bodies: Vec<Vec<u8>> = chunk.values().map(C::pack).collect();
        on.execute(&write, &[&facet.number(), &at, &kinds, &bodies]).await?;
    }
    Ok(())
}
