-- The days to which a source has added users: after a crash Redis may not show them yet.
select day from daily_active_by_partition where source = $1
