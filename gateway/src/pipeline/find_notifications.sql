-- The first notifications about an object from a time on.
select id, rule, severity, status, text, occurred_at
  from notifications
 where subject = $1 and occurred_at >= $2
 order by occurred_at
 limit 10
