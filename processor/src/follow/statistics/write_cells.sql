-- Writes cells of a facet ($1): places, kinds, bodies.
insert into statistics_cells (facet, at, kind, body)
select $1, * from unnest($2::int[], $3::int[], $4::bytea[])
on conflict (facet, kind, at) do update set body = excluded.body
