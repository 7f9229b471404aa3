-- Everything that is kept of one dead letter.
select topic || '/' || partition || '/' || record_offset as origin, received_at, error_code,
       error_detail, error_pointer, record_headers, record_key, record_value
  from dead_letters
 where id = $1
