-- Kinds of actions of a type ($1), a source ($2) and a type of objects ($3), each if it is given.
select no, event_type, source
  from action_kinds
 where ($1::text is null or event_type = $1)
   and ($2::text is null or source = $2)
   and ($3::text is null or (has_object and object_type = $3))
 order by no
