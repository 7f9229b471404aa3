-- What is folded of these objects.
select object, event_types, counts from object_counts_by_object where object = any($1)
