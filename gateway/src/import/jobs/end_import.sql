-- Writes down how a job ended.
update imports
   set state = $2, bytes_read = $3, accepted = $4, rejected = $5, rate = $6, eta = null, detail = $7, rejects = $8,
       first_events = $9, finished_at = now(), as_of = now()
 where id = $1 and state in ('queued', 'running')
