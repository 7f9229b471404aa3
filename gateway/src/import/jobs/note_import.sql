-- Writes down how far a job is. One that has ended stays as it ended.
update imports
   set state = $2, bytes_read = $3, accepted = $4, rejected = $5, rate = $6, eta = $7, detail = $8, as_of = now()
 where id = $1 and state in ('queued', 'running')
