-- Keeps a record that cannot be an event, as it came, with its reason.
insert into dead_letters (src, topic, partition, record_offset, record_key, record_value,
                          record_headers, error_code, error_detail, error_pointer, received_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
returning id
