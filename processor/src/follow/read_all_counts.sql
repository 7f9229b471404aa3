-- Every counter there is.
select object_type, object_id, event_type, count from object_counts
