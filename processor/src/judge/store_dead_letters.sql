-- Keeps dead letters of one source ($1, of topic $2 and partition $3): offsets, keys, values, headers,
-- codes, details, pointers, times of arrival.
insert into dead_letters (src, topic, partition, record_offset, record_key, record_value,
                          record_headers, error_code, error_detail, error_pointer, received_at)
select ($1::int::bigint << 44) | letter.record_offset, $2::text, $3::int, letter.*
  from unnest($4::bigint[], $5::bytea[], $6::bytea[], $7::jsonb[], $8::text[], $9::text[],
              $10::text[], $11::timestamptz[])
       as letter (record_offset, record_key, record_value, record_headers, error_code, error_detail,
                  error_pointer, received_at)
 order by letter.record_offset
returning id, record_offset
