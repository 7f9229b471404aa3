-- The cells of a facet ($1) in ranges (first, and one behind the last) of these kinds ($4).
select c.at, c.kind, c.body
  from unnest($2::int[], $3::int[]) as wanted (first, behind)
  join statistics_cells as c
    on c.facet = $1 and c.at >= wanted.first and c.at < wanted.behind and c.kind = any($4)
