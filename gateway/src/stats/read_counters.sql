-- Every counter of an object (type, id).
select event_type, count from object_counts where object_type = $1 and object_id = $2 order by event_type
