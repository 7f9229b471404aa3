-- The newest dead letters, of one code ($1) or of all; at most $2.
select id, received_at, error_code, error_detail,
       topic || '/' || partition || '/' || record_offset as origin
  from dead_letters
 where $1::text is null or error_code = $1
 order by id desc
 limit $2
