-- The newest dead letters below an id ($1), of a code if it is given ($2); at most $3. Of each value its
-- first bytes ($4).
select id, topic, partition, record_offset, error_code, error_detail, error_pointer, received_at,
       substring(record_value for $4) as value, octet_length(record_value) as bytes
  from dead_letters
 where id < $1 and ($2::text is null or error_code = $2)
 order by id desc
 limit $3
