-- The dead letters of one source between two positions ($1 inclusive, $2 exclusive), in order.
select id, record_offset, record_key, record_value, record_headers, error_code, error_detail,
       error_pointer, received_at
  from dead_letters
 where src >= $1 and src < $2
 order by src
