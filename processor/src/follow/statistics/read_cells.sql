-- The cells of a facet ($1) that are there, of these places and kinds.
select c.at, c.kind, c.body
  from unnest($2::int[], $3::int[]) as wanted (at, kind)
  join statistics_cells as c on c.facet = $1 and c.at = wanted.at and c.kind = wanted.kind
